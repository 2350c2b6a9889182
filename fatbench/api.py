"""The Python API behind `fatbench.run`, `evaluate`, `compare` and `load`: the command line's commands.

Nothing is printed, and torch is imported only where something is computed.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fatbench.config.parsing import parse_normalization
from fatbench.config.presets import no_setting
from fatbench.config.request import DEFAULT_OUTPUT, UNIFIED, Request, RunOptions
from fatbench.config.resolve import resolve, resolve_evaluation, usage
from fatbench.config.spec import OPTIONS, Toggle
from fatbench.errors import UsageError
from fatbench.record import Record

if TYPE_CHECKING:
    from fatbench.report.comparison import Group
    from fatbench.report.run import Run

Files = str | Path | Iterable[str | Path]


def run(
    method: str | Sequence[str],
    *,
    seeds: int | Sequence[int] = 0,
    hyper: Mapping[str, object] | None = None,
    preset: str | None = None,
    recipe: str = UNIFIED,
    eval_samples: int | str | None = None,
    device: str = "auto",
    require: Sequence[Toggle] = (),
    options: RunOptions | None = None,
    **settings: Any,
) -> list[Record]:
    """Train, attack and record, as `fatbench run` does; return one record per method and seed, methods first.

    Args:
        method: name, or path of a method's .py file; or several.
        hyper: hyper-parameters by name, or by METHOD.NAME.
        options: where to write, whether to resume, ...
        settings: other options of `fatbench run` by the keys of presets: dataset="cifar10", epochs=30, eps="8/255",
            evaluate=["clean", "pgd-20"], time_budget="10m", ...

    Raises:
        FatbenchError: see `fatbench.runner.run`; what is not there, or cannot be right, in one line.
    """
    _check_names(settings)
    request = Request(
        methods=[method] if isinstance(method, str) else method,
        preset=preset,
        settings=settings,
        hyper=[f"{name}={value}" for name, value in (hyper or {}).items()],
        seeds=str(seeds) if isinstance(seeds, int) else ",".join(map(str, seeds)),
        eval_samples=None if eval_samples is None else str(eval_samples),
        recipe=recipe,
        require=require,
    )
    resolve(request, device="cpu")  # answers mistakes before torch is imported
    from fatbench import runner
    from fatbench.environment import resolve_device

    how = replace(options or RunOptions(), require=require)
    return [runner.run(spec, how) for spec in resolve(request, resolve_device(device))]


def evaluate(
    checkpoint: str | Path,
    *,
    model: str | None = None,
    dataset: str | None = None,
    normalize: str | None = None,
    eval_samples: int | str | None = None,
    device: str = "auto",
    options: RunOptions | None = None,
    **settings: Any,
) -> Record:
    """Attack the weights in a file and record what comes out, as `fatbench eval` does.

    Args:
        checkpoint: .safetensors, or what torch.save wrote of a state dict.
        model, dataset: as for `run`; known of weights that `run` saved.
        normalize: "MEAN,STD" that the network expects; nothing if None.
        options: where to write, ...
        settings: eps, norm, evaluate, threads, eval_batch_size, eval_engine.

    Raises:
        FatbenchError: see `fatbench.runner.external.evaluate`.
    """
    from fatbench.models.checkpoint_metadata import known_settings, merged_settings, sha256_of

    _check_names(settings)
    path = Path(checkpoint)
    named = {name: value for name, value in (("model", model), ("dataset", dataset)) if value is not None}
    weights = {
        "checkpoint": sha256_of(path),
        "normalize": None if normalize is None else usage(parse_normalization, normalize),
    }
    given = merged_settings(known_settings(path), named | settings, path)
    from fatbench.environment import resolve_device
    from fatbench.runner import external

    samples = None if eval_samples is None else str(eval_samples)
    spec = resolve_evaluation(given, samples, resolve_device(device), **weights)
    return external.evaluate(spec, path, options or RunOptions())


def load(paths: Files = DEFAULT_OUTPUT) -> list["Run"]:
    """Return the records in files, folders or glob patterns, each with the path of its file.

    Raises:
        UsageError: there are none, or one cannot be read.
    """
    from fatbench.report.run import load_runs

    def refuse(error: UsageError) -> None:
        raise error

    names = [paths] if isinstance(paths, (str, Path)) else paths
    return load_runs([str(name) for name in names], refuse)


def compare(
    runs: Iterable["Record | Run"], *, sort: str | None = None, reference: str | None = None, paired: bool = False
) -> list["Group"]:
    """Return runs as groups of comparable rows, as `fatbench compare` prints them; see `fatbench.report.comparison`.

    Raises:
        UsageError: nothing can be sorted by `sort`, or no group has the `reference`.
    """
    from fatbench.report import comparison

    groups = comparison.compare(runs, sort=sort, reference=reference)
    return comparison.with_pairs(groups) if paired else groups


def _check_names(settings: Mapping[str, object]) -> None:
    known = {"evaluate", "autoattack_samples", *(one.key or name for name, one in OPTIONS.items())}
    unknown = next((name for name in settings if name not in known), None)
    if unknown is not None:
        raise UsageError(no_setting(unknown, known))
