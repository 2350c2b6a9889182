"""Parts of the fast engine that a user insists on: without them a run is an error, not a slower run."""

from collections.abc import Sequence

from fatbench.errors import ResourceError, UsageError
from fatbench.record import EngineInfo
from fatbench.spec import RunSpec, Toggle


def refuse_contradiction(spec: RunSpec, require: Sequence[Toggle]) -> None:
    """Return if the parts `require` can be in force at all, as far as the spec tells.

    Raises:
        UsageError: one is left out on purpose.
        ResourceError: the engine or the device has none.
    """
    for part in require:
        if part in spec.without:
            raise UsageError(f"--require {part} and --without {part} contradict each other")
        if part in ("graph", "cudnn-benchmark", "pad-stem") and not spec.device.startswith("cuda"):
            raise ResourceError(f"--require {part}: {'CUDA graphs need' if part == 'graph' else 'it needs'} a GPU")
        if spec.engine != "fast":
            raise UsageError(f"--require {part}: the {spec.engine} engine has no parts; use --engine fast")


def check_required(engine: EngineInfo | None, require: Sequence[Toggle]) -> None:
    """Return if all the parts `require` are in force.

    Raises:
        ResourceError: one is not, with the reason.
    """
    for part in require:
        if engine is None or not engine.in_force.get(part):
            notes = {} if engine is None else engine.notes
            why = notes.get(part, "of no use on this machine or in this precision")
            raise ResourceError(f"--require {part}: not in force: {why}")
