"""Microbatches: how many images go through the model at once; halved when out of memory."""

from collections.abc import Callable
from typing import TypeVar

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from fatbench.environment import is_out_of_memory, release_memory

Found = TypeVar("Found")
Logits = Callable[[Tensor], Tensor]  # (B, K) of (B, C, H, W) images in [0, 1]


class MicroBatch:
    """So many images at once, as long as memory lasts. What is drawn at random does not depend on it."""

    def __init__(self, size: int, device: torch.device) -> None:
        self.asked = self.size = size
        self._device = device

    def run(self, images: int, look: Callable[[int], Found]) -> Found:
        """Return `look(size)`; out of memory, with a smaller size, which stays, and the generators as before.

        Args:
            look: looks at `size` of them at once; it has no other effects.

        Raises:
            torch.OutOfMemoryError, RuntimeError, MemoryError: memory does not suffice for a single one.
        """
        before = _rng_state(self._device)
        while True:
            try:
                return look(self.size)
            except Exception as error:
                if not is_out_of_memory(error) or min(self.size, images) <= 1:
                    raise
            # Out here the exception is gone, and with it the tensors that its frames held.
            self.size = min(self.size, images) // 2
            release_memory(self._device)
            _put_back(before, self._device)

    @property
    def warnings(self) -> list[str]:
        """What the record should say about it."""
        if self.size == self.asked:
            return []
        return [
            f"out of memory with {self.asked} images at once: {self.size} at once, with the noise drawn for as many"
        ]


class MicroBatched:
    """The same function as a model, its logits and gradients computed in microbatches once memory has ended.

    An attack need not know: what it draws for a batch is drawn for all of it at once. Gradients then cost another
    forward pass, as activations are not kept (gradient checkpointing).
    """

    def __init__(self, model: Logits, microbatch: MicroBatch) -> None:
        self._model, self._microbatch = model, microbatch

    def __call__(self, x: Tensor) -> Tensor:
        """(B, K) logits of (B, C, H, W) images."""
        size = self._microbatch.size
        if size == self._microbatch.asked or len(x) <= size:
            return self._model(x)
        parts = torch.split(x, size)
        if torch.is_grad_enabled() and x.requires_grad:
            return torch.cat([checkpoint(self._model, part, use_reentrant=False) for part in parts])
        return torch.cat([self._model(part) for part in parts])


def in_chunks(size: int | None, look: Callable[..., Tensor], *rows: Tensor) -> Tensor:
    """Return what `look` makes of the rows, `size` of them at once; all at once for None."""
    if size is None or size >= len(rows[0]):
        return look(*rows)
    return torch.cat([look(*some) for some in zip(*(torch.split(one, size) for one in rows), strict=True)])


def _rng_state(device: torch.device) -> list[Tensor]:
    states = [torch.get_rng_state()]
    if device.type == "cuda":
        states.append(torch.cuda.get_rng_state(device))
    elif device.type == "mps":
        states.append(torch.mps.get_rng_state())
    return states


def _put_back(states: list[Tensor], device: torch.device) -> None:
    torch.set_rng_state(states[0])
    if device.type == "cuda":
        torch.cuda.set_rng_state(states[1], device)
    elif device.type == "mps":
        torch.mps.set_rng_state(states[1])
