"""Run: a record and where it lies, so that what lies beside it can be found; and how runs are loaded."""

from __future__ import annotations

import gc
import glob
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from fatbench import record
from fatbench.errors import UsageError
from fatbench.io.lock import is_held
from fatbench.io.safe_read import is_directory, path_exists
from fatbench.record import Record
from fatbench.record.paths import run_of_path

STOPPED = "stopped"


class Run(NamedTuple):
    """A record, and the path of its file; None where it was never in one."""

    record: Record
    path: Path | None = None

    @property
    def status(self) -> str:
        """How it ended: that of the record, but `STOPPED` for one that says it is running while no process is at it."""
        if self.record.status != "running" or self.path is None:
            return self.record.status
        return self.record.status if is_held(run_of_path(self.path)[0], self.record.id) else STOPPED

    @property
    def finished(self) -> bool:
        """Whether it ran to its end: only such runs are averaged, and only such runs are put to a test."""
        return self.record.status == "finished"


def in_words(status: str) -> str:
    """Return the status in words."""
    return "stopped (no process has it)" if status == STOPPED else status


def run_of(one: Record | Run) -> Run:
    """Return `one` as a run."""
    return one if isinstance(one, Run) else Run(one)


def load_runs(names: Sequence[str], unreadable: Callable[[UsageError], None]) -> list[Run]:
    """Return the records that the names mean, without their histories, which no table shows.

    Args:
        names: files, folders or patterns.
        unreadable: called with the error of each file that is left out; it may raise that.

    Raises:
        UsageError: there are no files of these names, or none of them can be read.
    """
    runs: list[Run] = []
    errors: list[UsageError] = []
    paths = _paths(names)
    # Thousands of records are millions of objects, all of which stay: going through them again and again would take
    # the collector longer than it takes to read them.
    collecting = gc.isenabled()
    gc.disable()
    try:
        for path in paths:
            try:
                runs.append(Run(record.load(path).model_copy(update={"history": []}), path))
            except UsageError as error:
                errors.append(error)
    finally:
        if collecting:
            gc.enable()
    if errors and not runs:
        rest = f"; nor can the {len(errors) - 1} others" if len(errors) > 1 else ""
        raise UsageError(f"{errors[0]}{rest}")
    for one in errors:
        unreadable(one)
    return runs


def split_names(names: Sequence[str] | None) -> list[str]:
    """Return the files of options that may hold several, separated by commas."""
    return [
        part
        for name in names or []
        for part in ([name] if path_exists(Path(name)) else name.split(","))
        if part.strip()
    ]


def _paths(names: Sequence[str]) -> list[Path]:
    """Return the files that `names` mean: files, patterns that the shell left alone, or folders of records."""
    paths: list[Path] = []
    for name in names:
        path = Path(name)
        if is_directory(path):
            found = sorted(path.glob("*.json"), key=str)  # of ten thousand paths each comparison would take them apart
        elif path_exists(path) or not glob.has_magic(name):
            found = [path]
        else:
            found = sorted(Path(match) for match in glob.glob(name))  # noqa: PTH207 - Path.glob takes no absolute one
        if not found and not is_directory(path):  # artefacts lie in folders beside the records: results/* names them
            raise UsageError(f"no records match '{name}'; `fatbench run` writes them to results/")
        paths += [file for file in found if file.suffix == ".json" or not is_directory(file)]
    if not paths:
        raise UsageError(f"no records in {', '.join(names)}; `fatbench run` writes them to results/")
    return paths
