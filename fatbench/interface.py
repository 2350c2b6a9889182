"""What a training method is given, and what it yields."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor

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

    ball: Ball  # threat model: .sample(x) .step(z, gradient, size, x) .project(z, x)
    num_train: int  # images in the training set
    step: Tensor  # () int64, batches seen before this one
    progress: Tensor  # () float32, fraction of the budget spent, in [0, 1)
    buffers: dict[str, Tensor] = field(default_factory=dict)  # what outlives the batch

    def buffer(self, name: str, like: Tensor, rows: int | None = None) -> Tensor:
        """Return the tensor `name`, zeros on first use, like `like` (or `rows` of its items); change it in place."""
        if name not in self.buffers:
            shape = like.shape if rows is None else (rows, *like.shape[1:])
            self.buffers[name] = torch.zeros(shape, dtype=like.dtype, device=like.device)
        return self.buffers[name]
