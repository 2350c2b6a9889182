"""Saving: keep the state of a training as often as is asked for, and where it is asked to leave off."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from fatbench.every import Every
from fatbench.runner.accounting import Account
from fatbench.runner.bench import Bench
from fatbench.runner.journal import Journal
from fatbench.runner.keeper import Keeper
from fatbench.runner.saved import BEFORE, FILE, Facts, Saved, write_saved
from fatbench.stop import Interrupted, Stop
from fatbench.training.loop import Training
from fatbench.training.state import state_of


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
        self._files = [journal.artefact(name) for name in (FILE, BEFORE)]

    @contextmanager
    def following(self, bench: Bench, training: Training, keeper: Keeper, account: Account) -> Iterator[None]:
        """Inside, these are what is to be saved; the time to the first state runs from now.

        Afterwards nothing holds them here: where memory ended, theirs is wanted.
        """
        self._bench, self._training, self._keeper, self._account = bench, training, keeper, account
        self._note_when()
        try:
            yield
        finally:
            del self._bench, self._training, self._keeper, self._account

    def after_batch(self) -> None:
        """Save if it is time.

        Raises:
            Interrupted: the run was asked to leave off; its state has been saved.
            ResourceError: the state cannot be written.
        """
        if self.stop.asked:
            self._save()
            raise Interrupted
        if self._is_due():
            self._save()
            self._note_when()

    def discard(self) -> None:
        """The run is complete: its states are of no use."""
        for file in self._files:
            file.unlink(missing_ok=True)

    @property
    def _epoch(self) -> int:
        return self._training.steps // len(self._training.loader)

    def _note_when(self) -> None:
        self._saved_at, self._saved_epoch = time.monotonic(), self._epoch

    def _is_due(self) -> bool:
        epochs, seconds = self._every
        if seconds is not None:
            return time.monotonic() - self._saved_at >= seconds
        return epochs is not None and self._epoch - self._saved_epoch >= epochs

    def _save(self) -> None:
        if self._training.steps < self._stored_steps:
            return
        clock = self._bench.clock
        with clock.phase("checkpoint"), self._account.energy.paused():
            kept = self._keeper.kept
            facts = Facts(
                record=self._journal.record,
                seconds=clock.by_phase(),
                kept_step=None if kept is None else kept[0].step,
                entries=self._account.entries(),
            )
            saved = Saved(facts, state_of(self._training), {} if kept is None else kept[1])
            write_saved(saved, self._files[0])
        if self._training.pacer is not None:
            self._training.pacer.rest()
