"""`fatbench resume`: go on with a run that was interrupted, from where it was."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fatbench import record
from fatbench.cli.checkpoints import every_of
from fatbench.cli.resolve import own_source
from fatbench.cli.session import run_all
from fatbench.errors import UsageError
from fatbench.record import Record

_RUNNING = "running.json"  # of a run that is to replace a result


def resume(
    run: Annotated[str, typer.Argument(metavar="ID|FILE", help="A run's id in --output, or its record.")],
    checkpoint_every: Annotated[
        str, typer.Option(help="How often to keep the training's state: 60s, 10m, 1e (each epoch) or none.")
    ] = "1e",
    strict: Annotated[
        bool, typer.Option("--strict", help="Exit with 4 if there is reason to doubt the result; it is kept.")
    ] = False,
    calibration: Annotated[
        float, typer.Option(min=0, max=60, help="Seconds to find the device's peak, once, for MFU; 0: none.")
    ] = 5.0,
    data_dir: Annotated[
        Path | None, typer.Option(envvar="FATBENCH_DATA", help="Where datasets lie. \\[default: ~/.cache/fatbench]")
    ] = None,
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder of records.")] = Path("results"),
    json: Annotated[
        bool, typer.Option("--json", help="Print the record as JSON, and nothing else, to stdout.")
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress.")] = False,
) -> None:
    """Go on with an interrupted run: mid-epoch, with the budget that it has left, to the same result."""
    every = every_of(checkpoint_every)
    folder, run_id = _place(run, output)
    found, replaces = _interrupted(folder, run_id)
    if found.spec.epochs == 0:
        raise UsageError(f"{run_id} is an evaluation of weights: the same `fatbench eval` goes on with it")
    if not found.finished and own_source(found.spec.model) != found.spec.model_source:
        raise UsageError(f"cannot go on with {run_id}: the source of {found.spec.model} is not what it was")
    options = {"output": folder, "force": replaces, "resume": True, "every": every, "data_dir": data_dir}
    raise typer.Exit(
        run_all([found.spec], json=json, quiet=quiet, strict=strict, calibration_seconds=calibration, **options)
    )


def _place(run: str, output: Path) -> tuple[Path, str]:
    """Return the folder and the id of the run that `run` means."""
    if not run.endswith(".json"):
        return output, run
    path = Path(run)
    if path.name == _RUNNING:
        return path.parent.parent, path.parent.name
    return path.parent, path.stem


def _interrupted(folder: Path, run_id: str) -> tuple[Record, bool]:
    """Return the record of the run that is under way, and whether it is to replace a result that stands.

    Raises:
        UsageError: there is no such run, or its record is damaged.
    """
    stored, replacing = folder / f"{run_id}.json", folder / run_id / _RUNNING
    if Path(run_id).name != run_id or not stored.exists():
        there = sorted(path.stem for path in folder.glob("*.json"))[:5]
        raise UsageError(
            f"no run '{run_id}' in {folder}: {'there are ' + ', '.join(there) if there else 'it has none'}"
        )
    found = record.load(stored)
    if found.id != run_id:
        raise UsageError(f"{stored} is the record of {found.id}: give it its own name again")
    if found.finished and replacing.exists():
        return record.load(replacing), True
    return found, False
