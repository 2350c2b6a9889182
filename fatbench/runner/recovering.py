"""Recovering: the record of a run that is damaged or gone, out of the state of its training, which holds all of it."""

from pathlib import Path

from fatbench.errors import UsageError
from fatbench.lock import locked
from fatbench.record import Record, load, save
from fatbench.record.places import STATE, STATE_BEFORE, artefact, replacing_record
from fatbench.regular import is_there
from fatbench.runner.journal import record_in_progress
from fatbench.runner.observer import Observer
from fatbench.runner.saved import read_saved


def record_in_state(folder: Path, run_id: str, *, replacing: bool) -> Record | None:
    """Return the record in the newest whole state of the run, as of one that was interrupted; None without a state."""
    for name in (STATE, STATE_BEFORE):
        file = artefact(folder, run_id, name, replacing=replacing)
        try:
            found = read_saved(file).facts.record if is_there(file) else None
        except UsageError:
            continue
        if found is not None and found.id == found.spec.id == run_id:
            return found.model_copy(update={"status": "interrupted"})
    return None


def put_record_back(folder: Path, run_id: str, observer: Observer) -> None:
    """Where the record of a run that is under way cannot be read, put the one in its state into its place.

    Raises:
        ResourceError: another process is at the run, or the folder cannot be written.
    """
    path = record_in_progress(folder, run_id)
    if not path.is_file():
        return
    try:
        load(path)
    except UsageError as error:
        found = record_in_state(folder, run_id, replacing=path == replacing_record(folder, run_id))
        if found is not None:
            with locked(folder, run_id):
                save(found, path.parent, path.name)
            observer.remark(f"{error}: the record in its state takes its place")
