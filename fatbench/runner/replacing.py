"""Replacing: a complete run takes the place of an earlier result, which stands until then."""

import shutil
from pathlib import Path

from fatbench.atomic import link_atomically
from fatbench.errors import WriteError
from fatbench.record import Record, save
from fatbench.record.places import IN_PROGRESS, awaits_its_place, final_name, replacing_record
from fatbench.regular import is_there


def put_in_place(folder: Path, run_id: str) -> Record | None:
    """Let a complete replacement take the place of the result, and return its record; None if there is none.

    At every moment the record that is in force and the files that it names belong together. Where this fails, or the
    process ends in between, it can be called again.

    Raises:
        ResourceError: the folder cannot be written.
    """
    whole = awaits_its_place(folder, run_id)
    if whole is None:
        return None
    inside = folder / run_id
    files = {name: Path(place).name for name, place in whole.artefacts.items()}
    if all(is_there(inside / file) for file in files.values()):  # else they have been put away already
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
        replacing_record(folder, run_id).unlink(missing_ok=True)
    except OSError as error:
        raise WriteError(inside, error) from None
    return final


def _places(run_id: str, files: dict[str, str]) -> dict[str, str]:
    return {name: f"{run_id}/{file}" for name, file in files.items()}
