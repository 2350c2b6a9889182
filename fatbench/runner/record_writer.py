"""Writes the record of a run as it grows: partial results are on disk soon after, however the run ends."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from fatbench.environment import describe_environment
from fatbench.errors import FatbenchError, one_line
from fatbench.io.atomic import make_folder
from fatbench.record import Record, Status, save
from fatbench.record.parts import Budget, MethodInfo, Timing
from fatbench.record.paths import artefact, record_in_progress, replaces_result
from fatbench.runner.checkpoint import Checkpoint
from fatbench.runner.claim import install_replacement
from fatbench.runner.setup import EvalContext, RunContext, data_info
from fatbench.runner.user_errors import user_errors_named
from fatbench.training.clock import Clock

_SECONDS = 1.0  # between two writes of what changes every epoch


class RecordWriter:
    """The record of a run that is under way.

    It grows in folder/<id>.json; where that file holds a finished result, in folder/<id>/running.json, and the
    result is replaced only by another.
    """

    def __init__(self, record: Record, folder: Path, clock: Clock) -> None:
        self.record = record
        self.folder = folder
        self._clock = clock
        self.replacing = replaces_result(folder, record.id)
        self.path = record_in_progress(folder, record.id)
        self._complete = False
        self._written = 0.0

    def artefact(self, file: str) -> Path:
        """Where the run's file of that name goes; a stored result's stays in place until the result is replaced."""
        return artefact(self.folder, self.record.id, file, replacing=self.replacing)

    def keep(self, name: str, file: Path, sha256: str | None = None) -> None:
        """Add to the record that the artefact `name` lies in `file`, and what its content comes to."""
        digests = self.record.digests if sha256 is None else {**self.record.digests, name: sha256}
        self.note(artefacts={**self.record.artefacts, name: f"{self.record.id}/{file.name}"}, digests=digests)

    def note(self, **fields: Any) -> None:
        """Add to the record, on disk too.

        Raises:
            ResourceError: it cannot be written.
        """
        timing = Timing(**{name: self._clock.seconds(name) for name in Timing.model_fields})
        grown = self.record.model_copy(update={"timing": timing, **fields})
        save(grown, self.path.parent, self.path.name)
        self.record = grown
        self._written = time.monotonic()

    def note_often(self, **fields: Any) -> None:
        """As `note`, but leave the disk alone if it was written a moment ago: short epochs come many a second."""
        if time.monotonic() - self._written > _SECONDS:
            self.note(**fields)
        else:
            self.record = self.record.model_copy(update=fields)

    def resume_from(self, checkpoint: Checkpoint) -> None:
        """Continue the record of a checkpoint, on disk too, and its clock."""
        self._clock.resume_from(checkpoint.facts.seconds)
        engine, self.record = self.record.engine, checkpoint.facts.record
        self.note(status="running", error=None, engine=engine, artefacts={}, digests={})

    def close(self, status: Status, error: str | None = None) -> None:
        """Say how the run ended; a result takes its final place.

        Raises:
            ResourceError: it cannot be written. A result that is complete by then waits beside the earlier one.
        """
        if self._complete:
            return  # what failed was to put it into its place: a later process does that
        budget = self.record.budget
        if budget.stopped_by is None and status != "finished":  # what was trained elsewhere had no budget here
            budget = budget.model_copy(update={"stopped_by": status})
        self.note(status=status, error=error, budget=budget)
        if self.replacing and self.record.is_result:
            self._complete = True
            self.record = install_replacement(self.folder, self.record.id) or self.record


def begin_run(context: RunContext, folder: Path) -> RecordWriter:
    """Return the writer of a run that is about to start, its first record written."""
    method = context.method
    source = {"sha256": method.description.sha256, "source": method.source}
    return begin_record(context, MethodInfo(name=method.name, hyper=context.spec.training.hyper, **source), folder)


def begin_record(context: EvalContext, method: MethodInfo, folder: Path) -> RecordWriter:
    """Return the writer of a run or evaluation that is about to start, its first record written."""
    spec = context.spec
    record = Record(
        id=spec.id,
        status="running",
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        spec=spec,
        method=method,
        budget=Budget(epochs=spec.train.epochs, train_seconds=spec.train.train_seconds) if spec.train else Budget(),
        data=data_info(context.dataset),
        parameters=sum(parameter.numel() for parameter in context.model.parameters()),
        model_notes=list(context.model.notes),
        environment=describe_environment(context.device),
    )
    make_folder(folder / record.id)  # what stands in its place is noticed now, not when there is much to lose
    writer = RecordWriter(record, folder, context.clock)
    writer.note()
    return writer


@contextmanager
def failures_recorded(writer: RecordWriter) -> Iterator[None]:
    """Whatever ends the run early, its record says so before the exception propagates.

    Raises:
        InvalidRunError: see `user_errors_named`.
    """
    try:
        with user_errors_named(writer.record.spec):
            yield
    except KeyboardInterrupt:
        writer.close("interrupted")
        raise
    except FatbenchError as error:
        writer.close("failed", str(error))
        raise
    except (Exception, SystemExit) as error:
        writer.close("failed", one_line(f"{type(error).__name__}: {error}"))
        raise
