"""`fatbench resume`: go on with a run that was interrupted, from where it was."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer

from fatbench.cli.checkpoints import EVERY_HELP, checkpoint_interval
from fatbench.cli.find_run import find_run, unfinished
from fatbench.cli.resume_hint import own_code
from fatbench.cli.session import run_all, show_stored
from fatbench.config.resolve import own_source
from fatbench.errors import UsageError
from fatbench.record import Record


def resume(
    run: Annotated[
        str, typer.Argument(metavar="ID|PATH", help="A run's id in --output, or the path of its record or folder.")
    ],
    method: Annotated[  # a list, as click keeps the last of several without a word
        list[str] | None, typer.Option("--method", "-m", help="The run's own method file: what runs is what you name.")
    ] = None,
    model: Annotated[str | None, typer.Option(help="The run's own model, likewise: file.py:factory.")] = None,
    checkpoint_every: Annotated[str, typer.Option(help=EVERY_HELP)] = "1e",
    strict: Annotated[
        bool, typer.Option("--strict", help="Exit with 4 if there is reason to doubt the result; it is kept.")
    ] = False,
    calibration: Annotated[
        float, typer.Option(min=0, max=60, help="Seconds to find the device's peak, once, for MFU; 0: none.")
    ] = 5.0,
    data_dir: Annotated[
        Path | None, typer.Option(envvar="FATBENCH_DATA", help="Where datasets lie. \\[default: ~/.cache/fatbench]")
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Folder of records. \\[default: results]")
    ] = None,
    json: Annotated[
        bool, typer.Option("--json", help="Print the record as JSON, and nothing else, to stdout.")
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress.")] = False,
) -> None:
    """Go on with an interrupted run: mid-epoch, with the budget that it has left, to the same result.

    What is trained and scored is what its record says; with other settings it is another run, of `fatbench run`.
    """
    interval = checkpoint_interval(checkpoint_every)
    if method and len(method) > 1:
        raise UsageError(
            f"a run has one method: --method {' and '.join(method)} are {len(method)}, leave out all but one"
        )
    folder, run_id = find_run(run, output)
    found, replaces = unfinished(folder, run_id)
    if found.spec.epochs == 0:
        raise UsageError(f"{run_id} is an evaluation of weights: the same `fatbench eval` goes on with it")
    if found.finished and not replaces:
        raise typer.Exit(show_stored(found, json=json, strict=strict, output=folder))
    _check_code(found, {"--method": method[0] if method else None, "--model": model})
    options = {"output": folder, "force": replaces, "resume": True, "checkpoint_every": interval, "data_dir": data_dir}
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
