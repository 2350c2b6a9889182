"""What a training costs: gathered while it runs, settled when it has ended, however it ended."""

from itertools import pairwise
from typing import Any

from fatbench.metering.energy import EnergyMeter, Gpu
from fatbench.metering.throughput import Mark, throughput
from fatbench.record.parts import Compute, Count, Event, Part, Quantity, Seconds
from fatbench.runner.setup import RunContext
from fatbench.training.loop import Training, TrainStatus
from fatbench.training.passes import BatchCost

_MOST = 10**9  # steps a second


class CostState(Part):
    """What an account holds of a training that is under way."""

    marks: list[tuple[Count, Seconds]]  # steps and seconds, both of which only grow
    joules: Quantity | None
    throttled: Event | None

    @property
    def possible(self) -> bool:
        """Whether a training can have come to this: somebody else may have written it."""
        ordered = all(a <= c and b <= d for (a, b), (c, d) in pairwise(self.marks))
        return self.marks[:1] == [(0, 0.0)] and ordered and all(mark[0] <= _MOST * mark[1] for mark in self.marks)


class CostMeter:
    """The account of one training. It asks nothing of a device that may have failed."""

    def __init__(self, context: RunContext, cost: BatchCost, batch_flops: int) -> None:
        self.cost = cost
        self._context = context
        self._batch_flops = batch_flops
        self._gpu = Gpu(context.device)
        self.energy = EnergyMeter(self._gpu)
        self._marks = [Mark(0, 0.0)]
        self._throttled: Event | None = None

    def state(self) -> CostState:
        """What has been gathered so far; `resume_from` gives it to the account of a later process."""
        return CostState(marks=list(self._marks), joules=self.energy.joules, throttled=self._throttled)

    def resume_from(self, state: CostState) -> None:
        """Go on from what the account of an earlier process had gathered."""
        self._marks = [Mark(*mark) for mark in state.marks]
        self._throttled = state.throttled
        self.energy.resume_from(state.joules)

    def watch(self, status: TrainStatus) -> None:
        """Take note of where training stands and whether the device is slowed down."""
        self._marks.append(Mark(status.steps, status.train_seconds))
        slowdowns = self._gpu.slowdowns()
        if slowdowns:
            first = self._throttled or Event(
                kind="throttled", step=status.steps, epoch=status.epoch, train_seconds=status.train_seconds
            )
            known = set(first.detail.split(", ")) if first.detail else set()
            self._throttled = first.model_copy(update={"detail": ", ".join(sorted(known | slowdowns))})

    def effort(self, training: Training) -> dict[str, Any]:
        """What has been done so far, by field of the record."""
        return {
            "steps": training.steps,
            "data_passes": training.batches / len(self._context.loader),
            "passes": self.cost.times(training.steps),
        }

    def totals(self, training: Training) -> dict[str, Any]:
        """What the training has come to, by field of the record."""
        pace = throughput(self._marks, self._context.spec.training.batch_size, throttled=self._throttled is not None)
        return self.effort(training) | {
            "throughput": pace,
            "compute": self._compute(training.steps),
            "energy_joules": self.energy.joules,
        }

    def events(self) -> list[Event]:
        """What a reader of the result must know of the device."""
        return [] if self._throttled is None else [self._throttled]

    def _compute(self, steps: int) -> Compute | None:
        seconds = self._context.clock.seconds("train")
        if not (steps and seconds):
            return None
        flops = self._batch_flops * steps / self.cost.updates
        return Compute(flops=flops, flops_per_second=flops / seconds)
