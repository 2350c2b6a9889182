"""What a training method is given, and what it yields."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor

from fatbench.crop_flip import NO_CROP, CropFlip
from fatbench.errors import InvalidRunError
from fatbench.threat import Ball

Losses = Iterator[Tensor]
"""Each scalar is worth exactly one optimiser step; the trainer does everything else."""


class Batch(NamedTuple):
    """One mini-batch, on the device."""

    x: Tensor  # (B, C, H, W) images in [0, 1], augmented
    y: Tensor  # (B,) int64 labels
    ids: Tensor  # (B,) int64 rows of the training set


@dataclass
class Context:
    """What a method may use besides model and batch."""

    ball: Ball  # threat model: .sample(x) .move(z, gradient, size) .step(z, gradient, size, x) .project(z, x)
    num_train: int  # images in the training set
    step: Tensor  # () int64, batches seen before this one
    progress: Tensor  # () float32, fraction of the budget spent, in [0, 1)
    buffers: dict[str, Tensor] = field(default_factory=dict)  # what outlives the batch
    crop_flip: CropFlip = NO_CROP  # how the batch's images were cropped and mirrored
    smoothing: float = 0.0  # for the label_smoothing of the loss that trains, as torch defines it
    memory_limit: int | None = None  # bytes that memory of single images may take; None: no limit

    def buffer(self, name: str, like: Tensor, rows: int | None = None) -> Tensor:
        """Return the tensor `name`, zeros on first use, like `like` (or `rows` of its items); change it in place.

        Change it after the batch's `yield`, so that whoever needs a loss twice (`--awp`) may ask for it twice.
        Rows of floats are bfloat16 once there is no room for them otherwise: read them `.to(like)`, store them
        `.to(buffer)`.
        """
        shape = like.shape if rows is None else (rows, *like.shape[1:])
        if name not in self.buffers:
            self.buffers[name] = torch.zeros(shape, dtype=self._dtype(shape, like, rows), device=like.device)
        found = self.buffers[name]
        if found.shape != shape:
            raise InvalidRunError(f"the buffer '{name}' is of shape {(*found.shape,)}, and wanted of {(*shape,)}")
        return found

    def period(self, epochs: float, batch: Tensor) -> Tensor:
        """Return the number, () int64 counted from 1, of the stretch of `epochs` passes over the data that this is.

        Each batch is a stretch of its own if epochs is 0. What is stored from 0 on is older than any.
        """
        batches = max(round(epochs * (self.num_train // len(batch))), 1)
        return torch.div(self.step, batches, rounding_mode="floor") + 1

    def _dtype(self, shape: Sequence[int], like: Tensor, rows: int | None) -> torch.dtype:
        if rows is None or self.memory_limit is None or not like.dtype.is_floating_point:
            return like.dtype
        stored = sum(one.nbytes for one in self.buffers.values() if len(one.shape) and len(one) == rows)
        return like.dtype if stored + math.prod(shape) * like.itemsize <= self.memory_limit else torch.bfloat16
