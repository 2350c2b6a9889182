"""Saving: keep the state of a training as often as is asked for, and where it is asked to leave off."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from fatbench.cancellation import CancelToken, Interrupted
from fatbench.config.parsing import CheckpointInterval
from fatbench.errors import WriteError
from fatbench.runner.checkpoint import BEFORE, FILE, Checkpoint, CheckpointInfo, write_checkpoint
from fatbench.runner.cost import CostMeter
from fatbench.runner.model_selection import ModelSelector
from fatbench.runner.record_writer import RecordWriter
from fatbench.runner.setup import RunContext
from fatbench.training.loop import Training
from fatbench.training.state import training_state


@dataclass(frozen=True)
class TrainingSnapshot:
    """What is to be saved: a training, and all who look at it."""

    context: RunContext
    training: Training
    model_selector: ModelSelector
    cost_meter: CostMeter

    @property
    def epoch(self) -> int:
        """Epochs that are complete."""
        return self.training.steps // len(self.training.loader)


class Checkpointer:
    """Looks after every batch whether it is time to save, or to leave off."""

    def __init__(
        self, writer: RecordWriter, checkpoint_every: CheckpointInterval, cancel: CancelToken, stored_steps: int = 0
    ) -> None:
        """Save beside the journal's record.

        Args:
            journal: of the run.
            every: how often.
            stop: the wish that it leave off.
            stored_steps: of a state that is there already and not gone on from; it is replaced once this run is as far.
        """
        self._writer = writer
        self._checkpoint_every = checkpoint_every
        self.cancel = cancel
        self._stored_steps = stored_steps
        self._subject: TrainingSnapshot | None = None
        self._files = [writer.artefact(name) for name in (FILE, BEFORE)]

    @contextmanager
    def following(self, subject: TrainingSnapshot) -> Iterator[None]:
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
        if self.cancel.requested:
            self._save(subject)
            raise Interrupted
        if self._is_due(subject):
            self._save(subject)
            self._note_when(subject)

    def resumed_from(self, checkpoint: Checkpoint) -> None:
        """The run goes on from `checkpoint`: where that is the state before a damaged one, this one has had its day.

        Raises:
            ResourceError: the folder cannot be written.
        """
        newest, before = self._files
        if checkpoint.file != before:
            return
        try:
            before.replace(newest)
        except OSError as error:
            raise WriteError(newest, error) from None

    def discard(self) -> None:
        """The run is complete: its states are of no use."""
        for file in self._files:
            file.unlink(missing_ok=True)

    def _note_when(self, subject: TrainingSnapshot) -> None:
        self._saved_at, self._saved_epoch = time.monotonic(), subject.epoch

    def _is_due(self, subject: TrainingSnapshot) -> bool:
        epochs, seconds = self._checkpoint_every
        if seconds is not None:
            return time.monotonic() - self._saved_at >= seconds
        return epochs is not None and subject.epoch - self._saved_epoch >= epochs

    def _save(self, subject: TrainingSnapshot) -> None:
        training = subject.training
        if training.steps < self._stored_steps:
            return
        clock = subject.context.clock
        with clock.phase("checkpoint"), subject.cost_meter.energy.paused():
            kept = subject.model_selector.kept
            facts = CheckpointInfo(
                record=self._writer.record,
                seconds=clock.by_phase(),
                kept_step=None if kept is None else kept[0].step,
                entries=subject.cost_meter.entries(),
            )
            write_checkpoint(
                Checkpoint(facts, training_state(training), {} if kept is None else kept[1]), self._files[0]
            )
        if training.throttle is not None:
            training.throttle.reset()
