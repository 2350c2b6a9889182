"""The claim: the one way to become a run's owner. Lock, look at what is stored, decide."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fatbench.errors import UsageError, WriteError
from fatbench.io.atomic import link_atomically
from fatbench.io.lock import locked
from fatbench.io.safe_read import is_directory, path_exists
from fatbench.record import PROTOCOL, Record, load, save
from fatbench.record.paths import IN_PROGRESS, final_name, pending_replacement, record_path, replacement_path
from fatbench.runner.setup import EvalContext


@contextmanager
def claim_run(
    context: EvalContext, method_sha256: str, output: Path, *, force: bool = False, resume: bool = False
) -> Iterator[Record | None]:
    """Own the run inside; yields the finished record that is stored of it and is to be returned, or None: go to work.

    A replacement that an earlier process had completed takes the place of the result first. A stored record needs no
    owner: it can be had while another process has the run, and from a folder that cannot be written.

    Args:
        method_sha256: of its method's source, or of the weights that are evaluated.
        resume: but a replacement that was completed is: the command that began it is resumed.

    Raises:
        ResourceError: another process has the run, or the folder cannot be written.
        UsageError: there is a file in the record's place that is no record.
    """
    run_id = context.spec.id
    if not force and pending_replacement(output, run_id) is None:
        known = finished_record(context, method_sha256, output)
        if known is not None:
            yield known
            return
    with locked(output, run_id):
        placed = install_replacement(output, run_id)
        if not resume or placed is None:  # whoever had the run may have finished it meanwhile
            placed = None if force else finished_record(context, method_sha256, output)
        yield placed


def finished_record(context: EvalContext, method_sha256: str, output: Path) -> Record | None:
    """Return the finished record of an identical run: the same spec, method source, data and protocol.

    Raises:
        UsageError: there is a file in its place that is no record.
    """
    record = same_run(context, method_sha256, record_path(output, context.spec.id))
    return record if record is not None and record.is_result else None


def same_run(context: EvalContext, method_sha256: str, path: Path, *, force: bool = False) -> Record | None:
    """Return the record at `path` if it is of the same run: spec, method source, data and protocol; else None."""
    if not path_exists(path):
        return None
    try:
        record = load(path)
    except UsageError as error:
        if force:
            return None
        remedy = "move it" if is_directory(path) else "the same command with --force replaces it"
        raise UsageError(f"{error}; {remedy}") from None
    same_data = record.data is not None and record.data.sha256 == context.dataset.sha256
    same = record.method.sha256 == method_sha256 and same_data and record.protocol == PROTOCOL
    return record if same and record.id == context.spec.id else None


def install_replacement(folder: Path, run_id: str) -> Record | None:
    """Let a complete replacement take the place of the result, and return its record; None if there is none.

    At every moment the record that is in force and the files that it names belong together. Where this fails, or the
    process ends in between, it can be called again.

    Raises:
        ResourceError: the folder cannot be written.
    """
    whole = pending_replacement(folder, run_id)
    if whole is None:
        return None
    inside = folder / run_id
    files = {name: Path(place).name for name, place in whole.artefacts.items()}
    if all(path_exists(inside / file) for file in files.values()):  # else they have been put away already
        save(whole.model_copy(update={"artefacts": _places(run_id, files)}), folder)  # in force from here on
        for file in files.values():
            if file.startswith(IN_PROGRESS):
                link_atomically(inside / file, inside / final_name(file))
    final = whole.model_copy(update={"artefacts": _places(run_id, {name: final_name(files[name]) for name in files})})
    save(final, folder)
    try:
        for left in inside.glob(f"{IN_PROGRESS}*"):  # states too
            if left.is_dir() and not left.is_symlink():
                shutil.rmtree(left)
            else:
                left.unlink()
        replacement_path(folder, run_id).unlink(missing_ok=True)
    except OSError as error:
        raise WriteError(inside, error) from None
    return final


def _places(run_id: str, files: dict[str, str]) -> dict[str, str]:
    return {name: f"{run_id}/{file}" for name, file in files.items()}
