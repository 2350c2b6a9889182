"""Joules of a GPU, over the stretches of a run that are to be charged."""

from collections.abc import Iterator
from contextlib import contextmanager

from fatbench.metering.nvml import Gpu


class EnergyMeter:
    """Joules that a GPU uses while the meter is on, its whole board: another process on it is charged here too.

    The counter moves every few tens of milliseconds, so a much shorter time is metered badly.
    """

    def __init__(self, gpu: Gpu) -> None:
        self._gpu = gpu
        self._before = gpu.joules()
        self._known = self._before is not None
        self._joules = 0.0
        self._on = False

    @property
    def joules(self) -> float | None:
        """What has been metered so far, or None where it cannot be."""
        self._settle()
        return max(self._joules, 0.0) if self._known else None

    def carry(self, joules: float | None) -> None:
        """Add what an earlier process has used, or None where nobody knows that."""
        self._known &= joules is not None
        self._joules += joules or 0.0

    @contextmanager
    def on(self) -> Iterator[None]:
        """Meter what happens inside."""
        with self._switched(True):
            yield

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Leave out what happens inside, while the meter is on."""
        with self._switched(False):
            yield

    @contextmanager
    def _switched(self, on: bool) -> Iterator[None]:
        self._settle()
        before, self._on = self._on, on
        try:
            yield
        finally:
            self._settle()
            self._on = before

    def _settle(self) -> None:
        """Read the counter, and charge what has been used since it was read, if the meter was on."""
        now = self._gpu.joules()
        if self._on:
            self._known &= self._before is not None and now is not None
            self._joules += (now or 0.0) - (self._before or 0.0)
        self._before = now
