"""Joules of a GPU, over the stretches of a run that are to be charged."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch


class Gpu:
    """One GPU in NVML's eyes; where NVML does not see or know it, every answer is that nothing is known."""

    def __init__(self, device: torch.device) -> None:
        self._nvml: Any = None
        if device.type != "cuda":
            return
        try:
            import pynvml  # which only Linux installs
        except ImportError:
            return
        # By UUID, since CUDA_VISIBLE_DEVICES renumbers. A slice of a GPU (MIG) is refused: its energy is not metered.
        uuid = f"GPU-{torch.cuda.get_device_properties(device).uuid}"
        try:
            pynvml.nvmlInit()  # counted by NVML, and let go with the process
            self._handle = pynvml.nvmlDeviceGetHandleByUUID(uuid)
        except pynvml.NVMLError:
            return
        self._nvml = pynvml

    def joules(self) -> float | None:
        """Return the energy that the whole board has used since its driver was loaded."""
        millijoules = self._ask("nvmlDeviceGetTotalEnergyConsumption")
        return None if millijoules is None else millijoules / 1000

    def slowdowns(self) -> frozenset[str]:
        """Return why the GPU is slowed down at this moment, beyond its ordinary power cap: heat or failing power."""
        reasons = self._ask("nvmlDeviceGetCurrentClocksEventReasons") or 0
        return frozenset(name for bit, name in _SLOWDOWNS.items() if reasons & bit)

    def _ask(self, question: str) -> int | None:
        if self._nvml is None:
            return None
        try:
            answer: int = getattr(self._nvml, question)(self._handle)
        except self._nvml.NVMLError:  # not supported by this GPU or driver
            return None
        return answer


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

    def resume_from(self, joules: float | None) -> None:
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


# nvml.h, nvmlClocksEventReason*. Left out are what is ordinary: idling, the power cap, clocks set by the user.
_SLOWDOWNS = {
    0x08: "hardware slowdown",
    0x20: "software thermal slowdown",
    0x40: "hardware thermal slowdown",
    0x80: "hardware power brake",
}
