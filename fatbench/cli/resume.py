"""`fatbench resume`: resume a run that was interrupted, and find out which one is meant."""

from __future__ import annotations

import difflib
import shlex
from pathlib import Path
from typing import Annotated

import typer

from fatbench import record
from fatbench.cli import options
from fatbench.cli.options import once, option
from fatbench.cli.resume_hint import own_code
from fatbench.cli.session import run_all, show_stored
from fatbench.config.option import Section
from fatbench.config.request import DEFAULT_OUTPUT, RunOptions
from fatbench.config.resolve import source_sha256
from fatbench.errors import UsageError
from fatbench.io.safe_read import is_directory, path_exists
from fatbench.record import Record, paths

_LISTED = 5
_ANEW = "`fatbench run ... --force` starts it again"


def resume(
    run: Annotated[
        str, typer.Argument(metavar="ID|PATH", help="A run's id in --output, or the path of its record or folder.")
    ],
    method: Annotated[
        list[str] | None,
        option("--method", "-m", panel=Section.WHAT, help="The run's own method file: what runs is what you name."),
    ] = None,
    model: Annotated[
        str | None, option(panel=Section.WHAT, help="The run's own model, likewise: file.py:factory.")
    ] = None,
    data_dir: options.DataDir = None,
    calibration: options.Calibration = RunOptions.calibration_seconds,
    checkpoint_every: options.Checkpointing = "1e",
    output: options.OptionalOutput = None,
    strict: options.Strict = False,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Resume an interrupted run: mid-epoch, with the budget that it has left, to the same result.

    What is trained and scored is what its record says; with other settings it is another run, of `fatbench run`.
    """
    interval = options.interval(checkpoint_every)
    named = {"--method": once("method", method), "--model": model}
    folder, run_id = find_run(run, output)
    found, replaces = unfinished(folder, run_id)
    if found.spec.train is None:
        raise UsageError(f"{run_id} is an evaluation of weights: the same `fatbench eval` resumes it")
    if found.is_result and not replaces:
        raise typer.Exit(show_stored(found, json=json, strict=strict, output=folder))
    _check_code(found, named)
    how = RunOptions(
        output=folder,
        force=replaces,
        resume=True,
        checkpoint_every=interval,
        data_dir=data_dir,
        calibration_seconds=calibration,
    )
    raise typer.Exit(run_all([found.spec], how, json=json, quiet=quiet, strict=strict))


def _check_code(found: Record, named: dict[str, str | None]) -> None:
    """Check that code of a user's own is what it was, and that she names it: none runs because a file names it.

    Raises:
        UsageError: it is not.
    """
    own = own_code(found.spec)
    for flag, name in named.items():
        meant = getattr(found.spec, flag.removeprefix("--"))
        if name is not None and Path(name) != Path(meant):
            raise UsageError(f"cannot resume {found.id}: it is of {flag} {meant:.100}, not {name:.100}")
    missing = [f"{flag} {shlex.quote(name)}" for flag, name in own.items() if named[flag] is None]
    if missing:
        raise UsageError(f"{found.id} runs code that its record names: if it is yours, add {' '.join(missing)}")
    for flag, name in own.items():
        field = f"{flag.removeprefix('--')}_source"
        if source_sha256(name) != found.spec.flat()[field]:
            raise UsageError(f"cannot resume {found.id}: the source of {name} is not what it was")


def find_run(run: str, output: Path | None) -> tuple[Path, str]:
    """Return the folder and the id of the run that is named by its id, its record's path or its folder's.

    Raises:
        UsageError: there is no such path, or it does not lie in `output`.
    """
    path = Path(run)
    if run.endswith(".json"):
        folder, run_id = paths.run_of_path(path)
    elif len(path.parts) > 1:
        folder, run_id = path.parent, path.name
    else:
        return output or DEFAULT_OUTPUT, run
    if not _is_run(folder, run_id):
        raise UsageError(f"{path} {'is the record of no run' if path_exists(path) else 'does not exist'}")
    if output is not None and output.resolve() != folder.resolve():
        raise UsageError(f"{path} lies in {folder}, not in {output}: leave out --output")
    return folder, run_id


def unfinished(folder: Path, run_id: str) -> tuple[Record, bool]:
    """Return the record of the run that is under way, and whether it is to replace a result that stands.

    A record that is damaged or gone is the one in the state of the training.

    Raises:
        UsageError: there is no such run, its record is damaged and its state too, or they do not belong together.
    """
    if not _is_run(folder, run_id):
        raise UsageError(_no_run(folder, run_id))
    stored, path = paths.record_path(folder, run_id), paths.record_in_progress(folder, run_id)
    replaces = path != stored and paths.replacement_begun(folder, run_id)
    stored = path if replaces else stored
    found = _record(stored, folder, run_id)
    if found.id != run_id:
        raise UsageError(
            f"{stored} is the record of {found.id}: it and its name do not belong together; give it its own name again"
        )
    if not found.is_result and found.spec.id != run_id:
        settings = "remove it, and its checkpoint holds the settings of the run"
        remedy = settings if paths.has_checkpoint(folder, run_id) else _ANEW
        raise UsageError(f"{stored} was edited: its settings and its name do not belong together; {remedy}")
    return found, replaces


def _is_run(folder: Path, run_id: str) -> bool:
    if run_id in ("", ".", "..") or Path(run_id).name != run_id:
        return False
    return path_exists(paths.record_path(folder, run_id)) or paths.has_checkpoint(folder, run_id)


def _record(path: Path, folder: Path, run_id: str) -> Record:
    """The record at `path`; where that is damaged or gone, the one in the state."""
    try:
        return record.load(path)
    except UsageError as error:
        if path_exists(path) and not path.is_file():
            raise
        if not paths.has_checkpoint(folder, run_id):
            raise UsageError(f"{error}; there is no checkpoint to resume from: {_ANEW}") from None
        from fatbench.runner.resume import record_in_checkpoint

        found = record_in_checkpoint(folder, run_id, replacing=path == paths.replacement_path(folder, run_id))
        if found is None:
            raise UsageError(f"{error}; nor can its checkpoint: {_ANEW}") from None
        return found


def _no_run(folder: Path, run_id: str) -> str:
    """Say that there is no such run, and which ones could be resumed, the closest names first."""
    if not is_directory(folder):
        return f"no run '{run_id}': {folder} {'is a file, not a folder' if path_exists(folder) else 'does not exist'}"
    unfinished = paths.unfinished_runs(folder)
    close = difflib.get_close_matches(run_id, unfinished, _LISTED, 0.5)
    shown = list(dict.fromkeys([*close, *unfinished]))[:_LISTED]
    rest = len(unfinished) - len(shown)
    there = f"{', '.join(shown)}{f' and {rest} more' if rest else ''}"
    return f"no run '{run_id}' in {folder}; {f'unfinished there: {there}' if shown else 'none is unfinished there'}"
