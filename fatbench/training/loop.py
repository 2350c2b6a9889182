"""The training loop: batches in, optimiser steps out, until the budget is spent."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor, nn

from fatbench.data.loader import Loader
from fatbench.errors import InvalidRunError
from fatbench.interface import Context
from fatbench.methods import Method
from fatbench.spec import Schedule
from fatbench.training.budget import Budget
from fatbench.training.clock import Clock
from fatbench.training.schedule import fraction_of_peak

_WATCH_SECONDS = 0.5  # between two looks at the loss, each of which makes the host wait for the device

StoppedBy = Literal["epochs", "time", "diverged"]


@dataclass(frozen=True)
class Pulse:
    """Where training stands, for whoever watches or keeps a history."""

    steps: int
    batches: int
    epoch: int  # completed epochs, each of len(loader) optimiser steps
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
    steps: int = 0  # optimiser steps taken
    batches: int = 0  # batches begun
    _losses: list[Tensor] = field(default_factory=list)  # since the last epoch ended; on the device, unread
    _spent: bool = False

    def run(self, watch: Callable[[Pulse], None], end_epoch: Callable[[Pulse], None]) -> StoppedBy:
        """Train until the budget is spent or the run has diverged, and return which.

        Args:
            watch: called about twice a second, on the clock, so it must be quick.
            end_epoch: called off the clock after the batch that completes an epoch, and once at the end.
        """
        watched = time.perf_counter()
        with self.clock.phase("train"):
            self._advance()
            while not self._spent:
                epoch = self._epoch
                self.step_through_batch()
                at_epoch_end = self._epoch > epoch or self._spent
                if not at_epoch_end and time.perf_counter() - watched < _WATCH_SECONDS:
                    continue
                watched = time.perf_counter()
                pulse = self.pulse()
                if not math.isfinite(pulse.loss) or (at_epoch_end and not self._weights_finite()):
                    return "diverged"
                watch(pulse)
                if at_epoch_end:
                    self._losses.clear()
                    with self.clock.phase("probe"):
                        end_epoch(pulse)
        return self.budget.kind

    def pulse(self) -> Pulse:
        """Where training stands now; waits for the device."""
        seconds = self.clock.seconds("train")
        return Pulse(
            steps=self.steps,
            batches=self.batches,
            epoch=self._epoch,
            progress=self.budget.progress(self.steps, seconds),
            train_seconds=seconds,
            lr=self.optimizer.param_groups[0]["lr"],
            loss=float(torch.stack(self._losses).mean()) if self._losses else 0.0,
        )

    def step_through_batch(self) -> None:
        """Take every step that the method makes of the next batch, or as many as the budget has left."""
        batch = self.loader.batch(self.batches)
        self.ctx.step.fill_(self.batches)
        self.batches += 1
        before = self.steps
        for loss in self.method(self.model, batch, self.ctx):
            self.optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            self.optimizer.step()
            self._losses.append(loss.detach())
            self.steps += 1
            self._advance()
            if self._spent:
                break
        if self.steps == before:
            raise InvalidRunError(f"{self.method.name} yields no loss for batch {self.batches - 1}: it would never end")

    def _advance(self) -> None:
        """See how far training is, tell the method, and move the learning rate there.

        The clock is read once per step, and only where the budget counts seconds: reading waits for the device.
        """
        seconds = self.clock.seconds("train") if self.budget.seconds is not None else 0.0
        self._spent = self.budget.spent(self.steps, seconds)
        progress = self.budget.progress(self.steps, seconds)
        self.ctx.progress.fill_(progress)
        for group in self.optimizer.param_groups:
            group["lr"] = self.peak_lr * fraction_of_peak(self.schedule, progress)

    @property
    def _epoch(self) -> int:
        return self.steps // len(self.loader)

    def _weights_finite(self) -> bool:
        return all(bool(parameter.isfinite().all()) for parameter in self.model.parameters())
