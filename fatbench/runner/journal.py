"""The record of a run as it grows: what is earned is on disk soon after, however the run ends."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from fatbench.environment import describe_environment
from fatbench.errors import FatbenchError, ResourceError, one_line
from fatbench.record import Budget, MethodInfo, Record, Status, Timing, save
from fatbench.runner.bench import Bench, data_info
from fatbench.spec import RunSpec
from fatbench.training.clock import Clock

_SAVE_SECONDS = 1.0  # between two writes of a running record


class Journal:
    """A record in the making."""

    def __init__(self, record: Record, folder: Path, clock: Clock) -> None:
        self.record = record
        self.folder = folder
        self._clock = clock
        self._saved = -_SAVE_SECONDS

    def note(self, **fields: Any) -> None:
        """Add to the record, and write it unless it was written a moment ago."""
        timing = Timing(**{name: self._clock.seconds(name) for name in Timing.model_fields})
        self.record = self.record.model_copy(update={"timing": timing, **fields})
        if time.monotonic() - self._saved > _SAVE_SECONDS:
            self.write()

    def write(self) -> None:
        """Write the record now.

        Raises:
            ResourceError: it cannot be written.
        """
        self._saved = time.monotonic()
        save(self.record, self.folder)

    def close(self, status: Status, error: str | None = None) -> None:
        """Say how the run ended, and write."""
        budget = self.record.budget
        if budget.stopped_by is None:
            budget = budget.model_copy(update={"stopped_by": status})
        self.note(status=status, error=error, budget=budget)
        self.write()


def open_journal(bench: Bench, folder: Path) -> Journal:
    """Return the journal of a run that is about to begin, its first record written."""
    spec, method = bench.spec, bench.method
    record = Record(
        id=spec.id,
        status="running",
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        spec=spec,
        method=MethodInfo(name=method.name, hyper=spec.hyper, sha256=method.description.sha256, source=method.source),
        budget=Budget(epochs=spec.epochs, train_seconds=spec.train_seconds),
        data=data_info(bench.dataset),
        parameters=sum(parameter.numel() for parameter in bench.model.parameters()),
        environment=describe_environment(bench.device),
    )
    journal = Journal(record, folder, bench.clock)
    journal.write()
    return journal


@contextmanager
def failures_recorded(journal: Journal) -> Iterator[None]:
    """Whatever ends the run early, its record says so before the exception goes on."""
    try:
        yield
    except KeyboardInterrupt:
        journal.close("interrupted")
        raise
    except FatbenchError as error:
        journal.close("failed", str(error))
        raise
    except Exception as error:
        journal.close("failed", one_line(f"{type(error).__name__}: {error}"))
        raise


@contextmanager
def out_of_memory_explained(spec: RunSpec) -> Iterator[None]:
    """Turn the ways in which torch runs out of memory into one line with the remedy."""
    try:
        yield
    except (torch.OutOfMemoryError, MemoryError):
        raise _too_large(spec) from None
    except RuntimeError as error:
        if "DefaultCPUAllocator" in str(error):  # on a CPU torch raises a plain RuntimeError
            raise _too_large(spec) from None
        raise


def _too_large(spec: RunSpec) -> ResourceError:
    half = max(spec.batch_size // 2, 2)
    return ResourceError(f"out of memory with --batch-size {spec.batch_size} and {spec.model}: try --batch-size {half}")
