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
        self._known = gpu.joules() is not None
        self._joules = 0.0

    @property
    def joules(self) -> float | None:
        """What has been metered, or None where it cannot be."""
        return max(self._joules, 0.0) if self._known else None

    @contextmanager
    def on(self) -> Iterator[None]:
        """Meter what happens inside."""
        with self._charged(1):
            yield

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Leave out what happens inside, while the meter is on."""
        with self._charged(-1):
            yield

    @contextmanager
    def _charged(self, sign: int) -> Iterator[None]:
        before = self._gpu.joules()
        try:
            yield
        finally:
            after = self._gpu.joules()
            self._known &= before is not None and after is not None
            self._joules += sign * ((after or 0.0) - (before or 0.0))
