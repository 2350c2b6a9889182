"""Parts of the fast engine that a user insists on: without them a run is an error, not a slower run."""

from collections.abc import Sequence

from fatbench import methods
from fatbench.config.spec import EnginePart, RunSpec
from fatbench.errors import ResourceError, UsageError
from fatbench.record.parts import EngineInfo

_NEED_GPU = ("graph", "cudnn-benchmark", "pad-stem")


def check_requirable(spec: RunSpec, require: Sequence[EnginePart]) -> None:
    """Return if the parts `require` can be in force at all, as far as the spec tells.

    Raises:
        UsageError: another flag rules one out.
        ResourceError: the device has none.
    """
    for part in require:
        obstacle = _obstacle(spec, part)
        if obstacle:
            raise UsageError(f"--require {part}: {obstacle}")
        if part in _NEED_GPU and not spec.device.startswith("cuda"):
            raise ResourceError(f"--require {part}: {'CUDA graphs need' if part == 'graph' else 'it needs'} a GPU")


def _obstacle(spec: RunSpec, part: EnginePart) -> str:
    """Return what in the spec rules the part out, or ""."""
    if part in spec.training.without:
        return f"--without {part} contradicts it"
    if spec.training.engine != "fast":
        return f"the {spec.training.engine} engine has no parts; use --engine fast"
    if part == "shadow" and spec.training.precision != "bf16":
        return "shadows are bfloat16 copies of weights; use --precision bf16"
    if part == "graph" and "fused-sgd" in spec.training.without:
        return "a graph needs fused-sgd, which --without leaves out"
    if part == "graph" and spec.training.awp is not None:
        return "--awp cannot be captured"
    why_not = methods.describe(spec.method).not_capturable if part == "graph" else ""
    return why_not and f"{spec.method} cannot be captured: {why_not}"


def check_required(engine: EngineInfo | None, require: Sequence[EnginePart]) -> None:
    """Return if all the parts `require` are in force.

    Raises:
        ResourceError: one is not, with the reason.
    """
    for part in require:
        if engine is None or not engine.in_force.get(part):
            notes = {} if engine is None else engine.notes
            why = notes.get(part, "of no use on this machine or in this precision")
            raise ResourceError(f"--require {part}: not in force: {why}")
