"""Saving: keep the state of a training as often as is asked for, and where it is asked to leave off."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from fatbench.errors import WriteError
from fatbench.every import Every
from fatbench.runner.accounting import Account
from fatbench.runner.bench import Bench
from fatbench.runner.journal import Journal
from fatbench.runner.keeper import Keeper
from fatbench.runner.saved import BEFORE, FILE, Facts, Saved, write_saved
from fatbench.stop import Interrupted, Stop
from fatbench.training.loop import Training
from fatbench.training.state import state_of


@dataclass(frozen=True)
class Subject:
    """What is to be saved: a training, and all who look at it."""

    bench: Bench
    training: Training
    keeper: Keeper
    account: Account

    @property
    def epoch(self) -> int:
        """Epochs that are complete."""
        return self.training.steps // len(self.training.loader)


class Saver:
    """Looks after every batch whether it is time to save, or to leave off."""

    def __init__(self, journal: Journal, every: Every, stop: Stop, stored_steps: int = 0) -> None:
        """Save beside the journal's record.

        Args:
            journal: of the run.
            every: how often.
            stop: the wish that it leave off.
            stored_steps: of a state that is there already and not gone on from; it is replaced once this run is as far.
        """
        self._journal = journal
        self._every = every
        self.stop = stop
        self._stored_steps = stored_steps
        self._subject: Subject | None = None
        self._files = [journal.artefact(name) for name in (FILE, BEFORE)]

    @contextmanager
    def following(self, subject: Subject) -> Iterator[None]:
        """Inside, this is what is to be saved; the time to the first state runs from now.

        Afterwards nothing holds it here: where memory ended, its is wanted.
        """
        self._subject = subject
        self._note_when(subject)
        try:
            yield
        finally:
            self._subject = None

    def after_batch(self) -> None:
        """Save if it is time.

        Raises:
            Interrupted: the run was asked to leave off; its state has been saved.
            ResourceError: the state cannot be written.
        """
        subject = self._subject
        assert subject is not None, "there is nothing to follow"
        if self.stop.asked:
            self._save(subject)
            raise Interrupted
        if self._is_due(subject):
            self._save(subject)
            self._note_when(subject)

    def gone_on_from(self, saved: Saved) -> None:
        """The run goes on from `saved`: where that is the state before a damaged one, this one has had its day.

        Raises:
            ResourceError: the folder cannot be written.
        """
        newest, before = self._files
        if saved.file != before:
            return
        try:
            before.replace(newest)
        except OSError as error:
            raise WriteError(newest, error) from None

    def discard(self) -> None:
        """The run is complete: its states are of no use."""
        for file in self._files:
            file.unlink(missing_ok=True)

    def _note_when(self, subject: Subject) -> None:
        self._saved_at, self._saved_epoch = time.monotonic(), subject.epoch

    def _is_due(self, subject: Subject) -> bool:
        epochs, seconds = self._every
        if seconds is not None:
            return time.monotonic() - self._saved_at >= seconds
        return epochs is not None and subject.epoch - self._saved_epoch >= epochs

    def _save(self, subject: Subject) -> None:
        training = subject.training
        if training.steps < self._stored_steps:
            return
        clock = subject.bench.clock
        with clock.phase("checkpoint"), subject.account.energy.paused():
            kept = subject.keeper.kept
            facts = Facts(
                record=self._journal.record,
                seconds=clock.by_phase(),
                kept_step=None if kept is None else kept[0].step,
                entries=subject.account.entries(),
            )
            write_saved(Saved(facts, state_of(training), {} if kept is None else kept[1]), self._files[0])
        if training.pacer is not None:
            training.pacer.rest()
