"""`fatbench eval`: attack weights that were trained here or elsewhere, and record what came out."""

from __future__ import annotations

import math
import sys
from contextlib import redirect_stdout
from pathlib import Path
from typing import Annotated, Any

import typer

from fatbench.cli.checkpoint_metadata import known_settings, sha256_of
from fatbench.cli.console import make_console
from fatbench.cli.errors import say
from fatbench.cli.interruption import cancel_on_signals, report_interrupted
from fatbench.cli.show import print_result
from fatbench.cli.warnings import warn_about_eps
from fatbench.config.parsing import split_requests
from fatbench.config.request import Request
from fatbench.config.resolve import resolve
from fatbench.config.spec import EXTERNAL, RunSpec, build_spec
from fatbench.errors import InvalidRunError, UsageError
from fatbench.record import Record
from fatbench.report.validity import reasons_to_distrust

# A spec says how its weights were trained. Nobody knows it of these, and no score depends on it: the same values for
# all, so that identical evaluations have identical ids.
_NOT_TRAINED_HERE: dict[str, Any] = {
    "method": EXTERNAL,
    "hyper": {},
    "epochs": 0,
    "train_seconds": None,
    "batch_size": 128,
    "lr": 1.0,
    "schedule": "constant",
    "momentum": 0.0,
    "weight_decay": 0.0,
    "pad": 0,
    "flip": False,
    "engine": "reference",
    "precision": "fp32",
}
_NORMALIZE = "--normalize takes MEAN,STD of pixels in [0, 1], as 0.1307,0.3081 or '0.49 0.48 0.45, 0.25 0.24 0.26'"


def evaluate(
    checkpoint: Annotated[
        Path, typer.Argument(help="Weights: .safetensors, or what torch.save wrote of a state dict.")
    ],
    model: Annotated[
        str | None, typer.Option("--model", help="Name, package.module:factory or file.py:factory.")
    ] = None,
    dataset: Annotated[str | None, typer.Option("--dataset", "-d", help="Name, .npz file or image folder.")] = None,
    normalize: Annotated[
        str | None,
        typer.Option(
            metavar="MEAN,STD",
            help="What the network expects to be normalised by, for pixels in [0, 1]: one number each, or one per "
            "channel with spaces between, as '0.49 0.48 0.45, 0.25 0.24 0.26'. \\[default: nothing]",
        ),
    ] = None,
    eps: Annotated[
        str | None, typer.Option(help="Radius for pixels in [0, 1], as 8/255. \\[default: dataset's]")
    ] = None,
    norm: Annotated[str | None, typer.Option(help="linf or l2. \\[default: dataset's]")] = None,
    evaluations: Annotated[
        str | None,
        typer.Option(
            "--eval",
            help="clean, fgsm, pgd-STEPS[-RESTARTS], autoattack by comma; each may say :n=IMAGES and "
            ":precision=POINTS. \\[default: clean,pgd-20,autoattack]",
        ),
    ] = None,
    eval_samples: Annotated[
        str | None, typer.Option(help="Test images for every evaluation, or all. \\[default: all; AutoAttack a subset]")
    ] = None,
    eval_batch_size: Annotated[int | None, typer.Option(help="Images at a time. \\[default: 250]")] = None,
    eval_engine: Annotated[str | None, typer.Option(help="AutoAttack's: exact or fast. \\[default: exact]")] = None,
    strict: Annotated[
        bool, typer.Option("--strict", help="Exit with 4 if there is reason to doubt the result; it is kept.")
    ] = False,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:INDEX or mps.")] = "auto",
    threads: Annotated[int | None, typer.Option(help="CPU threads.")] = None,
    data_dir: Annotated[
        Path | None, typer.Option(envvar="FATBENCH_DATA", help="Where datasets lie. \\[default: ~/.cache/fatbench]")
    ] = None,
    download: Annotated[bool, typer.Option("--download", help="Fetch a missing dataset.")] = False,
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder of records.")] = Path("results"),
    force: Annotated[bool, typer.Option("--force", help="Score again what is stored already.")] = False,
    json: Annotated[
        bool, typer.Option("--json", help="Print the record as JSON, and nothing else, to stdout.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the resolved evaluation as JSON and stop.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress.")] = False,
) -> None:
    """Attack and record trained weights, wherever they come from; for those of `fatbench run` the file is enough."""
    flags: dict[str, Any] = {
        "model": model,
        "dataset": dataset,
        "eps": eps,
        "norm": norm,
        "threads": threads,
        "evaluate": None if evaluations is None else split_requests(evaluations),
        "eval_batch_size": eval_batch_size,
        "eval_engine": eval_engine,
    }
    given = {name: value for name, value in flags.items() if value is not None}
    fixed = {"checkpoint": sha256_of(checkpoint), "normalize": None if normalize is None else _moments(normalize)}
    settings = _settings(known_settings(checkpoint), given, checkpoint)
    _spec(settings, eval_samples, "cpu", fixed)  # answers a user's mistake before torch is imported
    from fatbench.environment import resolve_device

    spec = _spec(settings, eval_samples, resolve_device(device), fixed)
    warn_about_eps(spec)
    if dry_run:
        typer.echo(f"[{spec.model_dump_json()}]")
        return
    options = {"output": output, "force": force, "data_dir": data_dir, "download": download}
    with cancel_on_signals() as signals:
        try:
            result = _score(spec, checkpoint, quiet=quiet or json, **options)
        except KeyboardInterrupt:
            raise typer.Exit(report_interrupted(spec, options, signals.exit_code)) from None
    _print(result, output, json)
    raise typer.Exit(_print_findings(result) if strict else 0)


def _settings(known: dict[str, Any], given: dict[str, Any], checkpoint: Path) -> dict[str, Any]:
    """What the checkpoint tells, changed by what the user says."""
    if given.get("norm", known.get("norm")) != known.get("norm"):
        known.pop("eps", None)  # a radius means little in another norm
    settings = known | given
    for name in ("model", "dataset"):
        if name not in settings:
            raise UsageError(f"which {name}? {checkpoint} does not tell: give --{name}")
    return settings


def _spec(settings: dict[str, Any], eval_samples: str | None, device: str, fixed: dict[str, Any]) -> RunSpec:
    """The spec of the evaluation: resolved as that of a run, whose training is then left out."""
    (run,) = resolve(Request(("standard",), flags=settings, eval_samples=eval_samples), device)
    return build_spec(**{**run.model_dump(), **_NOT_TRAINED_HERE, **fixed})


def _moments(text: str) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation out of "MEAN,STD", one number each or one per channel."""
    parts = text.split(",")
    try:
        mean, std = (tuple(float(word) for word in part.split()) for part in parts)
    except ValueError:
        raise UsageError(f"{_NORMALIZE}, not '{text:.60}'") from None
    if not mean or len(mean) != len(std) or not all(map(math.isfinite, (*mean, *std))):
        raise UsageError(f"{_NORMALIZE}, not '{text:.60}'")
    if min(mean) < 0 or max(mean) > 1 or min(std) <= 0 or max(std) > 1:
        raise UsageError(f"{_NORMALIZE}: means in [0, 1], deviations in (0, 1]; divide those of 8-bit pixels by 255")
    return mean, std


def _score(spec: RunSpec, checkpoint: Path, *, quiet: bool, **options: Any) -> Record:
    from fatbench.cli.progress import ProgressObserver
    from fatbench.runner import external

    # What a user's own model prints is no result: stdout is for records and panels.
    with (
        redirect_stdout(sys.stderr),
        ProgressObserver(make_console(stderr=True), checkpoint.name, quiet, "eval") as observer,
    ):
        return external.evaluate(spec, checkpoint, observer=observer, **options)


def _print(result: Record, output: Path, json: bool) -> None:
    if json:
        typer.echo(f"[{result.model_dump_json(by_alias=True)}]")
    else:
        print_result(make_console(), result, output / f"{result.id}.json")


def _print_findings(result: Record) -> int:
    """Say why the result is not to be relied on, and return the exit code."""
    found = reasons_to_distrust(result)
    for reason in found:
        say(reason.detail, 0)
    return InvalidRunError.exit_code if found else 0
