"""The claim: the one way to become a run's owner. Lock, look at what is stored, decide."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fatbench.lock import locked
from fatbench.record import Record
from fatbench.record.places import awaits_its_place
from fatbench.runner.bench import Candidate
from fatbench.runner.replacing import put_in_place
from fatbench.runner.stored import finished_record


@contextmanager
def claim(
    candidate: Candidate, method_sha256: str, output: Path, *, force: bool = False, resume: bool = False
) -> Iterator[Record | None]:
    """Own the run inside; yields the finished record that is stored of it and is to be returned, or None: go to work.

    A replacement that an earlier process had completed takes the place of the result first. A stored record needs no
    owner: it can be had while another process has the run, and from a folder that cannot be written.

    Args:
        candidate: what is to be run.
        method_sha256: of its method's source, or of the weights that are evaluated.
        output: the folder of records.
        force: what is stored is not wanted.
        resume: but a replacement that was completed is: the command that began it is resumed.

    Raises:
        ResourceError: another process has the run, or the folder cannot be written.
        UsageError: there is a file in the record's place that is no record.
    """
    run_id = candidate.spec.id
    if not force and awaits_its_place(output, run_id) is None:
        known = finished_record(candidate, method_sha256, output)
        if known is not None:
            yield known
            return
    with locked(output, run_id):
        placed = put_in_place(output, run_id)
        if not resume or placed is None:  # whoever had the run may have finished it meanwhile
            placed = None if force else finished_record(candidate, method_sha256, output)
        yield placed
