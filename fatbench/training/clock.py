"""One clock with phases, synchronised with the device wherever it is read."""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress

import torch


class Clock:
    """Seconds by phase. Phases never overlap: a phase entered inside another pauses the outer one.

    A device works asynchronously, so a reading waits for it first, and always between phases: otherwise one is charged
    for the work that the one before it queued.
    """

    def __init__(self, device: torch.device, now: Callable[[], float] = time.perf_counter) -> None:
        self._device = device
        self._now = now
        self._seconds: dict[str, float] = {}
        self._open: list[str] = []
        self._since = 0.0

    def seconds(self, phase: str, *, wait: bool = True) -> float:
        """Seconds spent in `phase` so far, the running part included.

        Args:
            phase: its name.
            wait: for the device, which may not have done yet what is queued on it; without, its work may be missing.
        """
        self._charge(wait=wait)
        return self._seconds.get(phase, 0.0)

    def by_phase(self) -> dict[str, float]:
        """Seconds spent so far, by phase."""
        self._charge()
        return dict(self._seconds)

    def resume_from(self, seconds: Mapping[str, float]) -> None:
        """Add what an earlier process has spent, by phase."""
        for name, value in seconds.items():
            self._seconds[name] = self._seconds.get(name, 0.0) + value

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Charge the time inside to `name`."""
        self._charge()
        self._open.append(name)
        try:
            yield
        finally:
            self._charge()
            self._open.pop()

    def _charge(self, *, wait: bool = True) -> None:
        """Give the time since the last reading to the innermost open phase."""
        if wait:
            with suppress(
                RuntimeError
            ):  # a device that has failed says so at its next use; the record must still close
                synchronize(self._device)
        now = self._now()
        if self._open:
            phase = self._open[-1]
            self._seconds[phase] = self._seconds.get(phase, 0.0) + now - self._since
        self._since = now


def synchronize(device: torch.device) -> None:
    """Wait until the device has done everything queued on it."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()
