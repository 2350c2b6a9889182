"""Which run of a folder is meant that was left off, and the record by which to go on."""

import difflib
from pathlib import Path

from fatbench import record
from fatbench.errors import UsageError
from fatbench.io.safe_read import is_directory, path_exists
from fatbench.record import Record
from fatbench.record.paths import has_checkpoint, record_path, replacement_path, run_of_path, unfinished_runs

_DEFAULT = Path("results")
_LISTED = 5
_ANEW = "`fatbench run ... --force` begins it again"


def find_run(run: str, output: Path | None) -> tuple[Path, str]:
    """Return the folder and the id of the run that is named by its id, its record's path or its folder's.

    Raises:
        UsageError: there is no such path, or it does not lie in `output`.
    """
    path = Path(run)
    if run.endswith(".json"):
        folder, run_id = run_of_path(path)
    elif len(path.parts) > 1:
        folder, run_id = path.parent, path.name
    else:
        return output or _DEFAULT, run
    if not _is_run(folder, run_id):
        raise UsageError(f"{path} {'is the record of no run' if path_exists(path) else 'does not exist'}")
    if output is not None and output.absolute() != folder.absolute():
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
    stored, replacing = record_path(folder, run_id), replacement_path(folder, run_id)
    found = _record(stored, folder, run_id)
    replaces = found.finished and path_exists(replacing)
    if replaces:
        found, stored = _record(replacing, folder, run_id), replacing
    if found.id != run_id:
        raise UsageError(
            f"{stored} is the record of {found.id}: it and its name do not belong together; give it its own name again"
        )
    if not found.finished and found.spec.id != run_id:
        remedy = "remove it, and its state tells how the run was begun" if has_checkpoint(folder, run_id) else _ANEW
        raise UsageError(f"{stored} was edited: its settings and its name do not belong together; {remedy}")
    return found, replaces


def _is_run(folder: Path, run_id: str) -> bool:
    if run_id in ("", ".", "..") or Path(run_id).name != run_id:
        return False
    return path_exists(record_path(folder, run_id)) or has_checkpoint(folder, run_id)


def _record(path: Path, folder: Path, run_id: str) -> Record:
    """The record at `path`; where that is damaged or gone, the one in the state."""
    try:
        return record.load(path)
    except UsageError as error:
        if path_exists(path) and not path.is_file():
            raise
        if not has_checkpoint(folder, run_id):
            raise UsageError(f"{error}; there is no state to go on from: {_ANEW}") from None
        from fatbench.runner.resume import record_in_checkpoint

        found = record_in_checkpoint(folder, run_id, replacing=path == replacement_path(folder, run_id))
        if found is None:
            raise UsageError(f"{error}; nor can its state: {_ANEW}") from None
        return found


def _no_run(folder: Path, run_id: str) -> str:
    """Say that there is no such run, and which there are that could be gone on with, the likeliest first."""
    if not is_directory(folder):
        return f"no run '{run_id}': {folder} {'is a file, not a folder' if path_exists(folder) else 'does not exist'}"
    unfinished = unfinished_runs(folder)
    close = difflib.get_close_matches(run_id, unfinished, _LISTED, 0.5)
    shown = list(dict.fromkeys([*close, *unfinished]))[:_LISTED]
    rest = len(unfinished) - len(shown)
    there = f"{', '.join(shown)}{f' and {rest} more' if rest else ''}"
    return f"no run '{run_id}' in {folder}; {f'unfinished there: {there}' if shown else 'none is unfinished there'}"
