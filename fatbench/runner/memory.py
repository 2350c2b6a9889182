"""Memory: how much a phase took at its peak, and running out of it said in one line with the remedy."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from fatbench.environment import peak_memory
from fatbench.errors import ResourceError
from fatbench.spec import RunSpec


def peaks(device: torch.device, phase: str) -> dict[str, int]:
    """Return bytes at the peak since the last reset, by names that begin with the phase's."""
    return {f"{phase}_{name}": size for name, size in peak_memory(device).items()}


@contextmanager
def training_memory_explained(spec: RunSpec) -> Iterator[None]:
    """Name the batch size of training where memory ends inside."""
    with _explained(f"training {spec.model} with --batch-size {spec.batch_size}: try {max(spec.batch_size // 2, 2)}"):
        yield


@contextmanager
def evaluation_memory_explained(spec: RunSpec) -> Iterator[None]:
    """Name the batch size of evaluation where memory ends inside."""
    size = spec.eval_batch_size
    with _explained(f"evaluating {spec.model} with --eval-batch-size {size}: try {max(size // 2, 1)}"):
        yield


@contextmanager
def _explained(what: str) -> Iterator[None]:
    try:
        yield
    except (torch.OutOfMemoryError, MemoryError):
        raise ResourceError(f"out of memory {what}") from None
    except RuntimeError as error:
        if "DefaultCPUAllocator" in str(error):  # on a CPU torch raises a plain RuntimeError
            raise ResourceError(f"out of memory {what}") from None
        raise
