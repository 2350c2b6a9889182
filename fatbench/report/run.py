"""Run: a record and where it lies, so that what lies beside it can be found."""

from pathlib import Path
from typing import NamedTuple

from fatbench.io.lock import is_held
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
    def valid(self) -> bool:
        """Whether it ran to its end: only such runs are averaged, and only such runs are put to a test."""
        return self.record.status == "finished"


def in_words(status: str) -> str:
    """Return the status in words."""
    return "stopped (no process has it)" if status == STOPPED else status


def run_of(one: Record | Run) -> Run:
    """Return `one` as a run."""
    return one if isinstance(one, Run) else Run(one)
