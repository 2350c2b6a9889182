"""What NVML, the driver's management library, knows of a GPU: the energy it has used, and what slows it down."""

from typing import Any

import torch

# nvml.h, nvmlClocksEventReason*. Left out are what is ordinary: idling, the power cap, clocks set by the user.
_SLOWDOWNS = {
    0x08: "hardware slowdown",
    0x20: "software thermal slowdown",
    0x40: "hardware thermal slowdown",
    0x80: "hardware power brake",
}


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
