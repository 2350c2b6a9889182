"""Where the files of a run lie: the one place that knows their names. No torch here."""

from pathlib import Path

from fatbench.errors import UsageError
from fatbench.io.safe_read import path_exists
from fatbench.record import Record, load

CHECKPOINT, PREVIOUS_CHECKPOINT = "state.safetensors", "state-before.safetensors"  # of a training
WEIGHTS, LAST_WEIGHTS = "model.safetensors", "last.safetensors"  # those that are scored; the last, where they are not
SAMPLES = "samples.npz"
IN_PROGRESS = "running-"  # before an artefact's name while an earlier result is still in force


def record_path(folder: Path, run_id: str) -> Path:
    """Where a run's result is found."""
    return folder / f"{run_id}.json"


def replacement_path(folder: Path, run_id: str) -> Path:
    """Where the record grows of a run that is to replace a result."""
    return folder / run_id / "running.json"


def run_of_path(path: Path) -> tuple[Path, str]:
    """Return the folder and the id of the run whose record, of either kind, is found at `path`."""
    replacing = replacement_path(path.parent.parent, path.parent.name)
    return (path.parent.parent, path.parent.name) if path == replacing else (path.parent, path.stem)


def artefact(folder: Path, run_id: str, file: str, *, replacing: bool) -> Path:
    """Where the run's file of that name lies; `replacing` a result, it lies beside that one's."""
    return folder / run_id / (f"{IN_PROGRESS}{file}" if replacing else file)


def final_name(file: str) -> str:
    """What an artefact of that name is called once it is in force."""
    return file.removeprefix(IN_PROGRESS)


def checkpoints(folder: Path, run_id: str, *, replacing: bool) -> list[Path]:
    """Where the run's checkpoints lie, the newest first; there need be none."""
    return [artefact(folder, run_id, name, replacing=replacing) for name in (CHECKPOINT, PREVIOUS_CHECKPOINT)]


def has_checkpoint(folder: Path, run_id: str) -> bool:
    """Whether there is a checkpoint that the run might resume from."""
    return any(path_exists(file) for kind in (False, True) for file in checkpoints(folder, run_id, replacing=kind))


def unfinished_runs(folder: Path) -> list[str]:
    """Return the ids of the runs in the folder that have a checkpoint, in order."""
    return sorted({file.parent.name for file in folder.glob(f"*/*{CHECKPOINT}")})


def pending_replacement(folder: Path, run_id: str) -> Record | None:
    """Return the record of a replacement that is complete, and has yet to take the place of the result."""
    try:
        found = load(replacement_path(folder, run_id))
    except UsageError:
        return None
    return found if found.is_result and found.id == run_id else None


def replaces_result(folder: Path, run_id: str) -> bool:
    """Whether a run that begins now, or is under way, is to replace a result; one under way, also a damaged one."""
    path = record_path(folder, run_id)
    try:
        return load(path).is_result
    except UsageError:
        return replacement_begun(folder, run_id)


def replacement_begun(folder: Path, run_id: str) -> bool:
    """Whether there is anything of a run that was to replace a result."""
    files = [replacement_path(folder, run_id), *checkpoints(folder, run_id, replacing=True)]
    return any(map(path_exists, files))


def record_in_progress(folder: Path, run_id: str) -> Path:
    """Where the record of a run grows that begins now, or is under way."""
    return (replacement_path if replaces_result(folder, run_id) else record_path)(folder, run_id)
