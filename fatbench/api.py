"""The Python API behind `fatbench.run`, `evaluate`, `load`, `compare` and `frame`: the command line's commands.

Nothing is printed, and torch is imported only where something is computed.
"""

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import NoneType
from typing import TYPE_CHECKING, Any

from fatbench.config.parsing import parse_normalization
from fatbench.config.presets import no_setting
from fatbench.config.request import DEFAULT_OUTPUT, UNIFIED, Request, RunOptions
from fatbench.config.resolve import resolve, resolve_evaluation, usage
from fatbench.config.spec import EVAL_OPTIONS, OPTIONS
from fatbench.errors import UsageError
from fatbench.record import Record

if TYPE_CHECKING:
    import pandas as pd

    from fatbench.report.comparison import Group
    from fatbench.report.run import Run

Files = str | Path | Iterable[str | Path]


def run(
    method: str | Path | Sequence[str | Path],
    *,
    seeds: int | str | Sequence[int] = 0,
    hyper: Mapping[str, object] | None = None,
    preset: str | Path | None = None,
    recipe: str = UNIFIED,
    eval_samples: int | str | None = None,
    device: str = "auto",
    options: RunOptions | None = None,
    **settings: Any,
) -> list[Record]:
    """Train, attack and record, as `fatbench run` does; return one record per method, eps and seed, in this order.

    Args:
        method: name, or path of a method's .py file; or several.
        hyper: hyper-parameters by name, or by METHOD.NAME.
        options: where to write, whether to resume, ...
        settings: other options of `fatbench run` by the keys of presets: dataset="cifar10", epochs=30, eps="8/255",
            evaluate=["clean", "pgd-20"], time_budget="10m", ... None leaves one as it is.

    Raises:
        FatbenchError: see `fatbench.runner.run`; what is not there, or cannot be right, in one line.
    """
    how = options or RunOptions()
    request = Request(
        methods=[os.fspath(one) for one in ([method] if isinstance(method, (str, Path)) else method)],
        preset=None if preset is None else os.fspath(preset),
        settings=_checked(settings, OPTIONS),
        hyper=[f"{name}={value}" for name, value in (hyper or {}).items()],
        seeds=",".join(map(str, seeds)) if isinstance(seeds, Sequence) and not isinstance(seeds, str) else str(seeds),
        eval_samples=None if eval_samples is None else str(eval_samples),
        recipe=recipe,
        require=how.require,
    )
    resolve(request, device="cpu")  # answers mistakes before torch is imported
    from fatbench import runner
    from fatbench.environment import resolve_device

    return [runner.run(spec, how) for spec in resolve(request, resolve_device(device))]


def evaluate(
    checkpoint: str | Path,
    *,
    checkpoint_key: str | None = None,
    normalize: str | None = None,
    eval_samples: int | str | None = None,
    device: str = "auto",
    options: RunOptions | None = None,
    **settings: Any,
) -> Record:
    """Attack the weights in a file and record what comes out, as `fatbench eval` does.

    Args:
        checkpoint: .safetensors, or what torch.save wrote of a state dict.
        checkpoint_key: which weights of the file, as "model_ema"; None: the only ones, or the plain before averages.
        normalize: "MEAN,STD" that the network expects; nothing if None.
        options: output, data_dir, download and force; the others are of trainings.
        settings: model and dataset (known of weights that `run` saved), eps, norm, evaluate, threads, eval_batch_size,
            eval_engine.

    Raises:
        FatbenchError: see `fatbench.runner.external.evaluate`.
    """
    from fatbench.models.checkpoint_metadata import known_settings, merged_settings, sha256_of

    path = Path(checkpoint)
    weights = {
        "checkpoint": sha256_of(path),
        "checkpoint_key": checkpoint_key,
        "normalize": None if normalize is None else usage(parse_normalization, normalize),
    }
    given = merged_settings(known_settings(path), _checked(settings, EVAL_OPTIONS), path)
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
    runs: Iterable["Record | Run"],
    *,
    sort: str | None = None,
    reference: str | None = None,
    paired: bool = False,
    vs: str | None = None,
) -> list["Group"]:
    """Return runs as groups of comparable rows, as `fatbench compare` prints them; see `fatbench.report.comparison`.

    Raises:
        UsageError: nothing can be sorted by `sort`, no group has the row `reference` or `vs`, or `vs` is not `paired`.
    """
    from fatbench.report import comparison

    if vs is not None and not paired:
        raise UsageError("vs names the row that pairs are made with: add paired=True")
    groups = comparison.compare(runs, sort=sort, reference=reference)
    return comparison.with_pairs(groups, vs=vs) if paired else groups


def frame(runs: Iterable["Record | Run"]) -> "pd.DataFrame":
    """Return one line of raw numbers per run; see `fatbench.report.frame`."""
    from fatbench.report.frame import frame
    from fatbench.report.run import run_of

    return frame(run_of(one).record for one in runs)


def _checked(settings: Mapping[str, Any], fields: Iterable[str]) -> dict[str, Any]:
    """Return the settings that are given, paths as text, if all of them are known by the keys of presets."""
    known = {"evaluate", "autoattack_samples", *(OPTIONS[name].key or name for name in fields)}
    unknown = next((name for name in settings if name not in known), None)
    if unknown is not None:
        raise UsageError(no_setting(unknown, known))
    for name in ("dataset", "model"):
        if not isinstance(settings.get(name), (str, Path, NoneType)):
            raise UsageError(f"{name} must be a name or a path, not {type(settings[name]).__name__}")
    return {
        name: os.fspath(value) if isinstance(value, Path) else value
        for name, value in settings.items()
        if value is not None
    }
