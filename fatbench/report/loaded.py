"""Run: a record and where it lies, so that what lies beside it can be found."""

from pathlib import Path
from typing import NamedTuple

from fatbench.record import Record


class Run(NamedTuple):
    """A record, and the path of its file; None where it was never in one."""

    record: Record
    path: Path | None = None

    @property
    def valid(self) -> bool:
        """Whether it ran to its end: only such runs are averaged, and only such runs are put to a test."""
        return self.record.status == "finished"


def run_of(one: Record | Run) -> Run:
    """Return `one` as a run."""
    return one if isinstance(one, Run) else Run(one)
