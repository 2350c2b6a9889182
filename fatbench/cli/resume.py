"""`fatbench resume`: go on with a run that was interrupted, from where it was."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer

from fatbench import record
from fatbench.cli.checkpoints import every_of
from fatbench.cli.interruption import own_code
from fatbench.cli.resolve import own_source
from fatbench.cli.session import run_all, show_stored
from fatbench.errors import UsageError
from fatbench.record import Record
from fatbench.record.places import final_record, named_by, replacing_record
from fatbench.regular import is_there


def resume(
    run: Annotated[str, typer.Argument(metavar="ID|FILE", help="A run's id in --output, or its record.")],
    method: Annotated[
        str | None, typer.Option("--method", "-m", help="The run's own method file: what runs is what you name.")
    ] = None,
    model: Annotated[str | None, typer.Option(help="The run's own model, as file.py:factory: likewise.")] = None,
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
    folder, run_id = named_by(Path(run)) if run.endswith(".json") else (output, run)
    found, replaces = _interrupted(folder, run_id)
    if found.spec.epochs == 0:
        raise UsageError(f"{run_id} is an evaluation of weights: the same `fatbench eval` goes on with it")
    if found.finished and not replaces:
        raise typer.Exit(show_stored(found, json=json, strict=strict, output=folder))
    _check_code(found, {"--method": method, "--model": model})
    options = {"output": folder, "force": replaces, "resume": True, "every": every, "data_dir": data_dir}
    raise typer.Exit(
        run_all([found.spec], json=json, quiet=quiet, strict=strict, calibration_seconds=calibration, **options)
    )


def _check_code(found: Record, named: dict[str, str | None]) -> None:
    """Check that code of a user's own is what it was, and that she names it: none runs because a file names it.

    Raises:
        UsageError: it is not.
    """
    own = own_code(found.spec)
    for flag, name in named.items():
        meant = getattr(found.spec, flag.removeprefix("--"))
        if name is not None and Path(name) != Path(meant):
            raise UsageError(f"cannot go on with {found.id}: it is of {flag} {meant:.100}, not {name:.100}")
    missing = [f"{flag} {shlex.quote(name)}" for flag, name in own.items() if named[flag] is None]
    if missing:
        raise UsageError(f"{found.id} runs code that its record names: if it is yours, add {' '.join(missing)}")
    for flag, name in own.items():
        field = f"{flag.removeprefix('--')}_source"
        if own_source(name) != getattr(found.spec, field):
            raise UsageError(f"cannot go on with {found.id}: the source of {name} is not what it was")


def _interrupted(folder: Path, run_id: str) -> tuple[Record, bool]:
    """Return the record of the run that is under way, and whether it is to replace a result that stands.

    Raises:
        UsageError: there is no such run, or its record is damaged.
    """
    stored, replacing = final_record(folder, run_id), replacing_record(folder, run_id)
    if Path(run_id).name != run_id or not is_there(stored):
        there = sorted(path.stem for path in folder.glob("*.json"))[:5]
        raise UsageError(
            f"no run '{run_id}' in {folder}: {'there are ' + ', '.join(there) if there else 'it has none'}"
        )
    found = record.load(stored)
    replaces = found.finished and is_there(replacing)
    if replaces:
        found, stored = record.load(replacing), replacing
    if found.id != run_id:
        raise UsageError(f"{stored} is the record of {found.id}: give it its own name again")
    return found, replaces
