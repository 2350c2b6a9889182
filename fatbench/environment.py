"""What machine and software this is, for the record."""

import os
import platform
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import torch

import fatbench
from fatbench.errors import ResourceError, UsageError
from fatbench.record.parts import Environment

# In plain RuntimeErrors: of a CPU, of libraries on a GPU, of Metal.
_OUT_OF_MEMORY = (
    "DefaultCPUAllocator",
    "CUDA out of memory",
    "_STATUS_ALLOC_FAILED",
    "DEVICE_ALLOCATION_FAILED",
    "MPS backend out of memory",
)


def resolve_device(name: str) -> str:
    """Return the device that `name` ("auto", "cpu", "cuda", "cuda:1", "mps") stands for here.

    Raises:
        UsageError: there is no such kind of device.
        ResourceError: this machine has none.
    """
    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError:
        device = torch.device("meta")
    if device.type not in ("cpu", "cuda", "mps") or (device.type != "cuda" and name != device.type):
        raise UsageError(f"no device '{name}': there are auto, cpu, cuda, cuda:INDEX and mps")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ResourceError(f"no GPU '{name}': torch sees {torch.cuda.device_count()}; use --device cpu")
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise ResourceError("no Metal device here; use --device cpu")
    return name


def describe_environment(device: torch.device) -> Environment:
    """Return what the record keeps about this machine and software."""
    commit, dirty = _source_state()
    on_gpu = device.type == "cuda"
    cpu = _cpu_model()
    return Environment(
        device=torch.cuda.get_device_name(device)
        if on_gpu
        else f"{platform.machine()} Metal"
        if device.type == "mps"
        else cpu,
        cpu=cpu,
        cpu_threads=torch.get_num_threads(),
        platform=platform.platform(terse=True),
        python=platform.python_version(),
        torch=torch.__version__,
        cuda=torch.version.cuda if on_gpu else None,
        cudnn=str(torch.backends.cudnn.version()) if on_gpu else None,  # type: ignore[no-untyped-call]
        driver=_output(["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]) if on_gpu else None,
        tf32=on_gpu and torch.backends.cudnn.conv.fp32_precision == "tf32",  # type: ignore[attr-defined]
        fatbench=fatbench.__version__,
        commit=commit,
        dirty=dirty,
    )


def reset_peak_memory(device: torch.device, *, release: bool = True) -> None:
    """Start a new measurement of peak memory on a GPU.

    Args:
        release: give back first what torch keeps for tensors to come, which would count as reserved.
    """
    if device.type == "cuda":
        if release:
            torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether it says that memory ended, of the device or of the machine."""
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    return isinstance(error, RuntimeError) and any(sign in str(error) for sign in _OUT_OF_MEMORY)


def release_memory(device: torch.device) -> None:
    """Give back what torch keeps for tensors to come."""
    if device.type == "cuda":
        torch.cuda.empty_cache()
    elif device.type == "mps":
        torch.mps.empty_cache()


def memory_budget(device: torch.device) -> int | None:
    """Return half of the bytes that the device has, for what a method remembers of single images, or None if unknown.

    The half of what there is, not of what is free: a run that is resumed must come to the same.
    """
    if device.type == "cuda":
        return torch.cuda.get_device_properties(device).total_memory // 2
    if device.type == "cpu" and hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2
    return None


def peak_memory(device: torch.device) -> dict[str, int]:
    """Return the peak bytes that torch allocated and reserved on a GPU since the reset.

    Nothing on a CPU: a process's peak cannot be reset, so it would be an earlier run's.
    """
    if device.type != "cuda":
        return {}
    return {"allocated": torch.cuda.max_memory_allocated(device), "reserved": torch.cuda.max_memory_reserved(device)}


class PeakMemory:
    """The most memory that a GPU has held from now on, without what is done in between."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._before: dict[str, int] = {}

    @property
    def found(self) -> dict[str, int]:
        """Bytes at the peak, as `peak_memory` names them."""
        now = peak_memory(self._device)
        if self._before:  # what torch keeps of the memory of a pause would count
            now["reserved"] = self._before["reserved"]
        return {name: max(size, self._before.get(name, 0)) for name, size in now.items()}

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Leave out what is done inside."""
        self._before = self.found
        try:
            yield
        finally:
            reset_peak_memory(self._device, release=False)  # to get it anew would be on the clock

    def restart(self) -> None:
        """Forget what was held so far."""
        self._before = {}
        reset_peak_memory(self._device)


def _cpu_model() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return " ".join(line.partition(":")[2].split())
    except OSError:
        pass
    return platform.processor() or platform.machine() or "unknown CPU"


@cache  # what runs is what was imported
def _source_state() -> tuple[str | None, bool | None]:
    """The commit of fatbench's own source tree and whether it was changed, or nothing when it is installed."""
    root = Path(__file__).parent.parent
    if not (root / ".git").exists():
        return None, None
    commit = _output(["git", "-C", str(root), "rev-parse", "HEAD"])
    changes = _output(["git", "-C", str(root), "status", "--porcelain", "--", "fatbench"])
    return commit, None if changes is None else bool(changes)


def _output(command: list[str]) -> str | None:
    """The first line that a command prints, or None when it cannot be run."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)  # noqa: S603
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.partition("\n")[0].strip()
