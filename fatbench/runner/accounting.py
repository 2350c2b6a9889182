"""What a training costs: gathered while it runs, settled when it has ended, however it ended."""

from typing import Any

from fatbench.metering.energy import EnergyMeter
from fatbench.metering.nvml import Gpu
from fatbench.metering.throughput import Mark, throughput
from fatbench.record import Compute, Event
from fatbench.runner.bench import Bench
from fatbench.training.loop import Pulse, Training
from fatbench.training.passes import BatchCost


class Account:
    """The account of one training. It asks nothing of a device that may have failed."""

    def __init__(self, bench: Bench, cost: BatchCost, batch_flops: int) -> None:
        self.cost = cost
        self._bench = bench
        self._batch_flops = batch_flops
        self._gpu = Gpu(bench.device)
        self.energy = EnergyMeter(self._gpu)
        self._marks = [Mark(0, 0.0)]
        self._slowdowns: set[str] = set()
        self._slowed_at: Pulse | None = None

    def watch(self, pulse: Pulse) -> None:
        """Take note of where training stands and whether the device is slowed down."""
        self._marks.append(Mark(pulse.steps, pulse.train_seconds))
        slowdowns = self._gpu.slowdowns()
        if slowdowns:
            self._slowed_at = self._slowed_at or pulse
            self._slowdowns |= slowdowns

    def effort(self, training: Training) -> dict[str, Any]:
        """What has been done so far, by field of the record."""
        return {
            "steps": training.steps,
            "data_passes": training.batches / len(self._bench.loader),
            "passes": self.cost.times(training.steps),
        }

    def settled(self, training: Training) -> dict[str, Any]:
        """What the training has come to, by field of the record."""
        pace = throughput(self._marks, self._bench.spec.batch_size, throttled=bool(self._slowdowns))
        return self.effort(training) | {
            "throughput": pace,
            "compute": self._compute(training.steps),
            "energy_joules": self.energy.joules,
        }

    def events(self) -> list[Event]:
        """What a reader of the result must know of the device."""
        at = self._slowed_at
        if at is None:
            return []
        why = ", ".join(sorted(self._slowdowns))
        return [Event(kind="throttled", step=at.steps, epoch=at.epoch, train_seconds=at.train_seconds, detail=why)]

    def _compute(self, steps: int) -> Compute | None:
        seconds = self._bench.clock.seconds("train")
        if not (steps and seconds):
            return None
        flops = self._batch_flops * steps / self.cost.updates
        return Compute(flops=flops, flops_per_second=flops / seconds)
