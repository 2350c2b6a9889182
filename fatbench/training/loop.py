"""The training loop: batches in, optimiser steps out, until the budget is spent."""

import math
import statistics
import time
from collections import deque
from collections.abc import Callable, Generator
from contextlib import AbstractContextManager, closing, nullcontext
from dataclasses import dataclass, field
from typing import Literal, cast

import torch
from torch import Tensor, nn
from torch.autograd.graph import increment_version

from fatbench.config.spec import Schedule
from fatbench.data.loader import Loader, Plan
from fatbench.errors import InvalidRunError
from fatbench.interface import Context
from fatbench.methods import Method
from fatbench.training.averaging import WeightAverage
from fatbench.training.clock import Clock
from fatbench.training.engine.capture import CapturedBatch
from fatbench.training.engine.throttle import Throttle
from fatbench.training.schedule import Budget, fraction_of_peak

_RECENT = 5  # batches, by whose median the next one's time is judged
_WATCH_SECONDS = 1.0  # between two looks at the loss, each of which makes the host wait for the device

StoppedBy = Literal["epochs", "time", "target", "overfitting", "diverged"]
StopReason = Literal["target", "overfitting"]


@dataclass(frozen=True)
class TrainStatus:
    """Where training stands, for whoever watches or keeps a history."""

    steps: int
    batches: int
    epoch: int  # the one that the last step belongs to, counted from 1; each is of len(loader) optimiser steps
    progress: float  # fraction of the budget spent
    train_seconds: float
    lr: float
    loss: float  # mean over the steps since the last epoch ended; not finite once the run has diverged


@dataclass
class Training:
    """One run's training: all that an optimiser step needs, and how far it has come."""

    model: nn.Module
    method: Method
    loader: Loader
    ctx: Context
    optimizer: torch.optim.Optimizer
    schedule: Schedule
    peak_lr: float
    budget: Budget
    clock: Clock
    throttle: Throttle | None = None  # the fast engine's: time is known without waiting for the device
    average: WeightAverage | None = None  # to be scored in place of the last weights
    captured: CapturedBatch | None = None  # the fast engine's on a GPU, once it is warm
    milestones: tuple[float, ...] = (0.5, 0.75)  # of a piecewise schedule, fractions of the budget
    peak: float | None = None  # of a cyclic or onecycle one, likewise; None: where it usually is
    steps: int = 0  # optimiser steps taken
    batches: int = 0  # batches begun
    loss_steps: int = 0  # steps since the last epoch ended ...
    loss_sum: Tensor = field(init=False)  # ... and their losses' sum; on the device, seldom read
    _seconds: float = 0.0  # of training, where the budget counts them
    _batch_seconds: deque[float] = field(default_factory=lambda: deque(maxlen=_RECENT))
    _spent: bool = False

    def __post_init__(self) -> None:
        self.loss_sum = torch.zeros((), device=self.ctx.step.device)

    def run(
        self,
        watch: Callable[[TrainStatus], None],
        end_epoch: Callable[[TrainStatus], StopReason | None],
        after_batch: Callable[[], None] = lambda: None,
    ) -> StoppedBy:
        """Train until the budget is spent, the end of an epoch was enough or the run has diverged, and return which.

        Args:
            watch: called about once a second, on the clock, so it must be quick.
            end_epoch: called off the clock after the batch that completes an epoch, and once at the end; says why the
                run may end with it, or None.
            after_batch: called on the clock when all about a batch is settled: the moment to save a checkpoint, or to
                leave off by an exception.
        """
        with self.clock.phase("train"):
            stopped_by = self._run(watch, end_epoch, after_batch)
        self.optimizer.zero_grad()  # gradients lie in a captured graph's memory, which evaluation may want
        self.captured = None
        return stopped_by

    def _run(
        self,
        watch: Callable[[TrainStatus], None],
        end_epoch: Callable[[TrainStatus], StopReason | None],
        after_batch: Callable[[], None],
    ) -> StoppedBy:
        watched = time.perf_counter()
        self._advance()
        while not self._spent:
            epochs, began = self._epochs, self._seconds
            self.step_through_batch()
            self._batch_seconds.append(self._seconds - began)
            self._spent = self._spent or self._another_would_miss()
            at_epoch_end = self._epochs > epochs or self._spent
            if at_epoch_end or time.perf_counter() - watched >= _WATCH_SECONDS:
                watched = time.perf_counter()
                stopped_by = self._look(watch, end_epoch if at_epoch_end else None)
                if stopped_by:
                    return stopped_by
            after_batch()
        return self.budget.kind

    def _look(
        self, watch: Callable[[TrainStatus], None], end_epoch: Callable[[TrainStatus], StopReason | None] | None
    ) -> StoppedBy | None:
        """Tell those who watch where training stands, and return why it ends here, or None."""
        status = self.status()
        if not math.isfinite(status.loss) or (end_epoch and not self._weights_finite()):
            return "diverged"
        watch(status)
        if end_epoch is None:
            return None
        self.loss_sum.zero_()
        self.loss_steps = 0
        if self.average is not None:
            self.average.after_epoch(status.progress)
        with self.clock.phase("probe"):
            return end_epoch(status)

    def status(self) -> TrainStatus:
        """Where training stands now; waits for the device."""
        seconds = self.clock.seconds("train")
        if self.throttle is not None:
            self.throttle.reset()
        progress = self.budget.progress(self.steps, seconds)
        return TrainStatus(
            steps=self.steps,
            batches=self.batches,
            epoch=self._epoch,
            progress=progress,
            train_seconds=seconds,
            lr=self._lr(progress),
            loss=float(self.loss_sum) / max(self.loss_steps, 1),
        )

    def scored_weights(self) -> AbstractContextManager[None]:
        """Let the model have the weights that are to be scored inside: their average, where one is taken."""
        return nullcontext() if self.average is None else self.average.swapped_in(self.loader)

    @property
    def counters(self) -> tuple[int, int, int]:
        """Optimiser steps, batches, and steps since the last epoch ended: where training stands, on the host."""
        return self.steps, self.batches, self.loss_steps

    @counters.setter
    def counters(self, counters: tuple[int, int, int]) -> None:
        self.steps, self.batches, self.loss_steps = counters

    def step_through_batch(self) -> None:
        """Take every step that the method makes of the next batch, or as many as the budget has left."""
        plan, before = self.loader.plan(self.batches), self.steps
        self.ctx.step.fill_(self.batches)
        self.batches += 1
        if self.captured is not None and self.budget.leaves(self.captured.updates, self.steps):
            self.captured.replay(plan, self._outlook(self.captured.updates))
            self._count(self.captured.updates)
        else:
            self._set_pace()
            with closing(self._updates(plan)) as updates:
                for _ in updates:
                    self._count(1)
                    if self._spent:
                        break
                    self._set_pace()
        if self.steps == before:
            raise InvalidRunError(f"{self.method.name} yields no loss for batch {self.batches - 1}: it would never end")
        if self.throttle is not None:
            self.throttle.batch_queued()
            self._advance()  # what is in flight has become known

    def work(self, plan: Plan, pace: Tensor) -> None:
        """All that a batch needs of the device, in place; progress and rate of each step stand in `pace`, (updates, 2).

        What the host keeps count of is not touched.
        """
        increment_version(list(self.state().values()))  # whatever copies weights copies them anew, in every replay too
        self._follow(pace[0])
        for step, _ in enumerate(self._updates(plan), start=1):
            if step < len(pace):
                self._follow(pace[step])

    def state(self) -> dict[str, Tensor]:
        """Every tensor that `work` changes and training builds on, by a name of its own."""
        slots = enumerate(self.optimizer.state.values())
        average = {} if self.average is None else self.average.state()
        found: dict[str, object] = {
            **dict(self.model.named_parameters()),
            **dict(self.model.named_buffers()),
            **{f"ctx.buffers {name}": value for name, value in self.ctx.buffers.items()},
            **{f"optimizer {index} {name}": value for index, slot in slots for name, value in slot.items()},
            **{f"average {name}": value for name, value in average.items()},
            **{f"rate {index}": group["lr"] for index, group in enumerate(self.optimizer.param_groups)},
            "ctx.step": self.ctx.step,
            "ctx.progress": self.ctx.progress,
            "loss": self.loss_sum,
        }
        return {name: value for name, value in found.items() if isinstance(value, Tensor)}

    def _updates(self, plan: Plan) -> Generator[None]:
        """Take the optimiser steps that the method makes of the batch that `plan` asks for, one at a time."""
        self.ctx.crop_flip = self.loader.crop_flip(plan)
        losses = self.method(self.model, self.loader.gather(plan), self.ctx)
        stepped = False
        try:
            for loss in losses:
                if stepped:
                    self._average()
                self.optimizer.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
                self.optimizer.step()
                self.loss_sum.add_(loss.detach())
                stepped = True
                yield
        finally:  # the budget may end in the midst; a method that has moved the weights (--awp) takes that back first
            cast(Generator[Tensor], losses).close()
            if stepped:
                self._average()

    def _average(self) -> None:
        """Take the weights of the last step into their average."""
        if self.average is not None:
            self.average.after_step()

    def _count(self, steps: int) -> None:
        self.steps += steps
        self.loss_steps += steps
        self._advance()

    def _advance(self) -> None:
        """See how far training is. The clock is read once per step, and only where the budget counts seconds."""
        if self.budget.seconds is not None:
            self._seconds = self._seconds_spent()
        self._spent = self.budget.spent(self.steps, self._seconds)

    def _seconds_spent(self) -> float:
        """Training seconds when all that is queued will be done: a reading, or with a throttle a close estimate."""
        if self.throttle is None:
            return self.clock.seconds("train")
        seconds = self.clock.seconds("train", wait=False)
        return seconds + self.throttle.in_flight * seconds / max(self.batches - self.throttle.in_flight, 1)

    def _outlook(self, steps: int) -> list[tuple[float, float]]:
        """Progress and learning rate at each of the coming steps; within a batch time is taken to run evenly."""
        pace = self._seconds / max(self.steps, 1)
        progress = [self.budget.progress(self.steps + step, self._seconds + step * pace) for step in range(steps)]
        return [(one, self._lr(one)) for one in progress]

    def _set_pace(self) -> None:
        """Tell the method how far training is, and move the learning rate there."""
        progress = self.budget.progress(self.steps, self._seconds)
        self.ctx.progress.fill_(progress)
        rate = self._lr(progress)
        for group in self.optimizer.param_groups:
            if isinstance(group["lr"], Tensor):
                group["lr"].fill_(rate)
            else:
                group["lr"] = rate

    def _follow(self, pace: Tensor) -> None:
        """As `_set_pace`, from a tensor (2,) of progress and learning rate."""
        progress, rate = pace
        self.ctx.progress.copy_(progress)
        for group in self.optimizer.param_groups:
            if isinstance(group["lr"], Tensor):
                group["lr"].copy_(rate)

    def _lr(self, progress: float) -> float:
        return self.peak_lr * fraction_of_peak(self.schedule, progress, self.milestones, self.peak)

    def _another_would_miss(self) -> bool:
        """Whether the end of the budget is nearer now than it would be after another batch, if that is as the last."""
        if self.budget.seconds is None:
            return False
        return self.budget.seconds - self._seconds < statistics.median(self._batch_seconds) / 2

    @property
    def _epochs(self) -> int:
        """Epochs that are complete."""
        return self.steps // len(self.loader)

    @property
    def _epoch(self) -> int:
        """The number of the epoch that the last step belongs to, counted from 1."""
        has_just_ended = self._epochs > (self.steps - self.loss_steps) // len(self.loader)
        return self._epochs + (not has_just_ended)

    def _weights_finite(self) -> bool:
        norms = torch._foreach_norm([parameter.detach() for parameter in self.model.parameters()])
        return bool(torch.stack(norms).isfinite().all())
