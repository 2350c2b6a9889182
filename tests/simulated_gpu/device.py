"""What the simulated device keeps: its generator, the host's waits, the tape of a recording."""

import traceback
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

HERE = Path(__file__).parent


class Call(NamedTuple):
    """An operation as it was carried out, by the tensors that hold the numbers."""

    func: Any
    args: Any
    kwargs: Any
    result: Any


class Device:
    """One GPU's state."""

    def __init__(self) -> None:
        self.waits: Counter[str] = Counter()  # of the host, by what and where
        self.recordings = 0
        self.sync_debug = 0  # 0: waits are counted, 2: they are errors
        self.tape: list[Call] | None = None  # of the recording in progress
        self.generator_state = torch.Generator().manual_seed(0).get_state()
        self.generator_broken = False  # by a recording that broke off

    def wait(self, what: str) -> None:
        """Let the host wait for the device.

        Raises:
            RuntimeError: it may not, in torch's words.
        """
        found = f"{what} at {_place()}"
        self.waits[found] += 1
        if self.tape is not None:
            raise RuntimeError(f"CUDA error: operation not permitted when stream is capturing: {found}")
        if self.sync_debug == 2:
            raise RuntimeError(f"called a synchronizing CUDA operation: {found}")

    def synchronize(self) -> None:
        """Wait for all that is queued: sync-debug mode lets that pass, a recording does not."""
        if self.tape is not None:
            raise RuntimeError("CUDA error: operation not permitted when stream is capturing")

    @contextmanager
    def drawing(self) -> Iterator[None]:
        """Draw from the device's generator inside: torch's default one stands in for it."""
        if self.generator_broken and self.tape is None:
            raise RuntimeError("Offset increment outside graph capture encountered unexpectedly.")
        host = torch.get_rng_state()
        torch.set_rng_state(self.generator_state)
        try:
            yield
        finally:
            self.generator_state = torch.get_rng_state()
            torch.set_rng_state(host)


def is_drawing(func: Any, kwargs: dict[str, Any]) -> bool:
    """Return whether an operation draws from the default generator."""
    seeded = func in _DRAWING or torch.Tag.nondeterministic_seeded in getattr(func, "tags", ())
    return seeded and kwargs.get("generator") is None


_DRAWING = {torch.rand, torch.randn, torch.randint, torch.randperm, torch.normal, torch.bernoulli}


def _place() -> str:
    """The innermost line that is neither torch's nor the simulation's."""
    for frame in reversed(traceback.extract_stack()):
        path = Path(frame.filename)
        if "site-packages" not in path.parts and (path.parent != HERE or path.name.startswith("test_")):
            return f"{path.name}:{frame.lineno}"
    return "elsewhere"


def tensors_of(leaves: list[Any]) -> list[Tensor]:
    """The tensors among the arguments of a call."""
    return [leaf for leaf in leaves if isinstance(leaf, Tensor)]
