"""The record of a run as it grows: what is earned is on disk soon after, however the run ends."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from fatbench.environment import describe_environment
from fatbench.errors import FatbenchError, UsageError, one_line
from fatbench.record import Budget, MethodInfo, Record, Status, Timing, load, save
from fatbench.runner.bench import Bench, Candidate, data_info
from fatbench.runner.faults import own_faults_named
from fatbench.runner.saved import Saved
from fatbench.training.clock import Clock

_IN_PROGRESS = "running-"  # before an artefact's name while an earlier result is still in force
_SECONDS = 1.0  # between two writes of what changes every epoch


class Journal:
    """A record in the making.

    It grows in folder/<id>.json; where that file holds a finished result, in folder/<id>/running.json, and the
    result is replaced only by another.
    """

    def __init__(self, record: Record, folder: Path, clock: Clock) -> None:
        self.record = record
        self.folder = folder
        self._clock = clock
        self._final = folder / f"{record.id}.json"
        self.path = folder / record.id / "running.json" if _is_result(self._final) else self._final
        self._written = 0.0

    def artefact(self, file: str) -> Path:
        """Where the run's file of that name goes; a stored result's stays in place until the result is replaced."""
        return self.folder / self.record.id / (file if self.path == self._final else f"{_IN_PROGRESS}{file}")

    def keep(self, name: str, file: Path) -> None:
        """Add to the record that the artefact `name` lies in `file`."""
        self.note(artefacts={**self.record.artefacts, name: f"{self.record.id}/{file.name}"})

    def note(self, **fields: Any) -> None:
        """Add to the record, on disk too.

        Raises:
            ResourceError: it cannot be written.
        """
        timing = Timing(**{name: self._clock.seconds(name) for name in Timing.model_fields})
        self.record = self.record.model_copy(update={"timing": timing, **fields})
        save(self.record, self.path.parent, self.path.name)
        self._written = time.monotonic()

    def note_often(self, **fields: Any) -> None:
        """As `note`, but leave the disk alone if it was written a moment ago: short epochs come many a second."""
        if time.monotonic() - self._written > _SECONDS:
            self.note(**fields)
        else:
            self.record = self.record.model_copy(update=fields)

    def close(self, status: Status, error: str | None = None) -> None:
        """Say how the run ended; a result takes its final place."""
        budget = self.record.budget
        if budget.stopped_by is None and status != "finished":  # what was trained elsewhere had no budget here
            budget = budget.model_copy(update={"stopped_by": status})
        in_progress = self.path
        if status not in ("finished", "diverged") or in_progress == self._final:
            self.note(status=status, error=error, budget=budget)
            return
        artefacts = {}
        for name, place in self.record.artefacts.items():
            file = self.folder / place
            final = file.with_name(file.name.removeprefix(_IN_PROGRESS))
            file.replace(final)
            artefacts[name] = f"{self.record.id}/{final.name}"
        self.path = self._final
        self.note(status=status, error=error, budget=budget, artefacts=artefacts)
        in_progress.unlink(missing_ok=True)


def artefact_of(folder: Path, run_id: str, file: str) -> Path:
    """Where the file of that name goes while the run is under way: beside a stored result's, where there is one."""
    in_progress = _is_result(folder / f"{run_id}.json")
    return folder / run_id / (f"{_IN_PROGRESS}{file}" if in_progress else file)


def open_journal(bench: Bench, folder: Path) -> Journal:
    """Return the journal of a run that is about to begin, its first record written."""
    method = bench.method
    source = {"sha256": method.description.sha256, "source": method.source}
    return begin_journal(bench, MethodInfo(name=method.name, hyper=bench.spec.hyper, **source), folder)


def reopened_journal(bench: Bench, saved: Saved, folder: Path) -> Journal:
    """Return the journal of a run that goes on where it was saved, its record written; its clock has gone on too."""
    bench.clock.carry(saved.facts.seconds)
    journal = Journal(saved.facts.record, folder, bench.clock)
    journal.note()
    return journal


def begin_journal(candidate: Candidate, method: MethodInfo, folder: Path) -> Journal:
    """Return the journal of what is about to become of the candidate, its first record written."""
    spec = candidate.spec
    record = Record(
        id=spec.id,
        status="running",
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        spec=spec,
        method=method,
        budget=Budget(epochs=spec.epochs, train_seconds=spec.train_seconds),
        data=data_info(candidate.dataset),
        parameters=sum(parameter.numel() for parameter in candidate.model.parameters()),
        environment=describe_environment(candidate.device),
    )
    journal = Journal(record, folder, candidate.clock)
    journal.note()
    return journal


@contextmanager
def failures_recorded(journal: Journal) -> Iterator[None]:
    """Whatever ends the run early, its record says so before the exception goes on.

    Raises:
        InvalidRunError: see `own_faults_named`.
    """
    try:
        with own_faults_named(journal.record.spec):
            yield
    except KeyboardInterrupt:
        journal.close("interrupted")
        raise
    except FatbenchError as error:
        journal.close("failed", str(error))
        raise
    except (Exception, SystemExit) as error:
        journal.close("failed", one_line(f"{type(error).__name__}: {error}"))
        raise


def _is_result(path: Path) -> bool:
    try:
        return path.exists() and load(path).finished
    except UsageError:
        return False  # not a record: nothing is lost by replacing it
