"""Reading: many records by the names of files, folders and patterns, of which some may be no records."""

from __future__ import annotations

import gc
import glob
from pathlib import Path
from typing import TYPE_CHECKING

from fatbench import record
from fatbench.cli.complaint import say
from fatbench.errors import UsageError
from fatbench.record import Record
from fatbench.regular import is_folder, is_there

if TYPE_CHECKING:  # as in `fatbench.cli.compare`
    from fatbench.report.loaded import Run


class Unread:
    """What to do with files that cannot be read: name each and go on, unless they must all be read."""

    def __init__(self, *, allowed: bool) -> None:
        self._allowed = allowed
        self.exit_code = 0

    def leave_out(self, error: UsageError) -> None:
        """Say what is left out, and why.

        Raises:
            UsageError: nothing may be.
        """
        if not self._allowed:
            raise error
        self.exit_code = say(f"left out: {error}", error.exit_code)


def load_all(names: list[str], unread: Unread) -> list[Run]:
    """Return the records that the names mean.

    Raises:
        UsageError: there are none, none of them can be read, or one of which nothing may be left out.
    """
    from fatbench.report.loaded import Run

    runs: list[Run] = []
    errors: list[UsageError] = []
    paths = _paths(names)
    # Thousands of records are millions of objects, all of which stay: going through them again and again would take
    # the collector longer than it takes to read them.
    gc.disable()
    try:
        for path in paths:
            try:
                runs.append(Run(_without_history(record.load(path)), path))
            except UsageError as error:
                errors.append(error)
    finally:
        gc.freeze()
        gc.enable()
    if errors and not runs:
        rest = f"; nor can the {len(errors) - 1} others" if len(errors) > 1 else ""
        raise UsageError(f"{errors[0]}{rest}")
    for one in errors:
        unread.leave_out(one)
    return runs


def _without_history(whole: Record) -> Record:
    """The record less the bulk of it, which no table shows."""
    return whole.model_copy(update={"history": []})


def split(names: list[str] | None) -> list[str]:
    """Return the files of options that may hold several, separated by commas."""
    return [
        part for name in names or [] for part in ([name] if is_there(Path(name)) else name.split(",")) if part.strip()
    ]


def _paths(names: list[str]) -> list[Path]:
    """Return the files that `names` mean: files, patterns that the shell left alone, or folders of records."""
    paths: list[Path] = []
    for name in names:
        path = Path(name)
        if is_folder(path):
            found = sorted(path.glob("*.json"), key=str)  # of ten thousand paths each comparison would take them apart
        elif is_there(path) or not glob.has_magic(name):
            found = [path]
        else:
            found = sorted(Path(match) for match in glob.glob(name))  # noqa: PTH207 - Path.glob takes no absolute one
        if not found and not is_folder(path):  # artefacts lie in folders beside the records: results/* names them too
            raise UsageError(f"no records match '{name}'; `fatbench run` writes them to results/")
        paths += [file for file in found if file.suffix == ".json" or not is_folder(file)]
    if not paths:
        raise UsageError(f"no records in {', '.join(names)}; `fatbench run` writes them to results/")
    return paths
