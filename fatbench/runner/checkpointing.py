"""Checkpointing: save the state of a training at an interval, and where the run is cancelled."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from fatbench.cancellation import CancelToken, Interrupted
from fatbench.config.parsing import CheckpointInterval
from fatbench.errors import WriteError
from fatbench.record.paths import CHECKPOINT, PREVIOUS_CHECKPOINT
from fatbench.runner.checkpoint import Checkpoint, CheckpointInfo, write_checkpoint
from fatbench.runner.cost import CostMeter
from fatbench.runner.model_selection import ModelSelector
from fatbench.runner.record_writer import RecordWriter
from fatbench.runner.setup import RunContext
from fatbench.training.loop import Training
from fatbench.training.state import training_state


@dataclass(frozen=True)
class CheckpointSource:
    """What a checkpoint is taken of: a training and its callbacks."""

    context: RunContext
    training: Training
    model_selector: ModelSelector
    cost_meter: CostMeter

    @property
    def epoch(self) -> int:
        """Epochs that are complete."""
        return self.training.steps // len(self.training.loader)


class Checkpointer:
    """Checks after every batch whether to save a checkpoint, or to stop."""

    def __init__(
        self, writer: RecordWriter, checkpoint_every: CheckpointInterval, cancel: CancelToken, stored_steps: int = 0
    ) -> None:
        """Save beside the record.

        Args:
            stored_steps: of a checkpoint that is there and not resumed; it is replaced once this run is as far.
        """
        self._writer = writer
        self._checkpoint_every = checkpoint_every
        self.cancel = cancel
        self._stored_steps = stored_steps
        self._snapshot: CheckpointSource | None = None
        self._files = [writer.artefact(name) for name in (CHECKPOINT, PREVIOUS_CHECKPOINT)]

    @contextmanager
    def following(self, snapshot: CheckpointSource) -> Iterator[None]:
        """Inside, checkpoints are of this; the interval to the first starts now.

        Afterwards nothing here holds it: where memory ended, its memory is needed.
        """
        self._snapshot = snapshot
        self._note_when(snapshot)
        try:
            yield
        finally:
            self._snapshot = None

    def after_batch(self) -> None:
        """Save if it is time.

        Raises:
            Interrupted: the run was cancelled; its checkpoint has been saved.
            ResourceError: the state cannot be written.
        """
        snapshot = self._snapshot
        assert snapshot is not None, "nothing is followed"
        if self.cancel.requested:
            self._save(snapshot)
            raise Interrupted
        if self._is_due(snapshot):
            self._save(snapshot)
            self._note_when(snapshot)

    def resumed_from(self, checkpoint: Checkpoint) -> None:
        """The run resumes from `checkpoint`: where that is the previous one, it replaces the newest, which is damaged.

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
        """The run is complete: remove its checkpoints."""
        for file in self._files:
            file.unlink(missing_ok=True)

    def _note_when(self, snapshot: CheckpointSource) -> None:
        self._saved_at, self._saved_epoch = time.monotonic(), snapshot.epoch

    def _is_due(self, snapshot: CheckpointSource) -> bool:
        epochs, seconds = self._checkpoint_every
        if seconds is not None:
            return time.monotonic() - self._saved_at >= seconds
        return epochs is not None and snapshot.epoch - self._saved_epoch >= epochs

    def _save(self, snapshot: CheckpointSource) -> None:
        training = snapshot.training
        if training.steps < self._stored_steps:
            return
        clock = snapshot.context.clock
        with clock.phase("checkpoint"), snapshot.cost_meter.energy.paused():
            kept = snapshot.model_selector.kept
            facts = CheckpointInfo(
                record=self._writer.record,
                seconds=clock.by_phase(),
                kept_step=None if kept is None else kept[0].step,
                cost=snapshot.cost_meter.state(),
            )
            write_checkpoint(
                Checkpoint(facts, training_state(training), {} if kept is None else kept[1]), self._files[0]
            )
        if training.throttle is not None:
            training.throttle.reset()
