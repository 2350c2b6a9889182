"""Loader: augmented batches of a training set that lies on the device, with no work on the host."""

import copy
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from fatbench.crop_flip import CropFlip
from fatbench.errors import UsageError
from fatbench.interface import Batch


class Plan(NamedTuple):
    """What an epoch, or a batch of it, will do, in its order: (N,) each, on the device."""

    rows: Tensor  # int64, a permutation of the images
    top: Tensor  # int64 in [0, 2 pad]: where the crop begins in the padded image
    left: Tensor  # likewise
    flip: Tensor  # bool


def to_float(x: Tensor) -> Tensor:
    """Return 8-bit images as float32 in [0, 1]: x / 255, rounded correctly on every device."""
    # CUDA multiplies by the reciprocal of a plain number, which is an ulp off for half of the 256 levels.
    return x / torch.full((), 255.0, dtype=torch.float32, device=x.device)


def draw_plan(count: int, pad: int, *, seed: int, epoch: int, device: torch.device) -> Plan:
    """Return the plan that (seed, epoch) gives for `count` images; the same on every call, but not on every device."""
    state = np.random.SeedSequence([seed, epoch]).generate_state(1, np.uint64)
    generator = torch.Generator(device).manual_seed(int(state[0] >> np.uint64(1)))
    rows = torch.randperm(count, generator=generator, device=device)
    top, left = torch.randint(0, 2 * pad + 1, (2, count), generator=generator, device=device)
    flip = torch.randint(0, 2, (count,), generator=generator, device=device).bool()
    return Plan(rows, top, left, flip)


class Loader:
    """Random batches of `batch_size`; the images left over at an epoch's end are dropped, others in every epoch."""

    def __init__(self, x: Tensor, y: Tensor, *, batch_size: int, seed: int, pad: int, flip: bool) -> None:
        """Take uint8 (N, C, H, W) images and their (N,) labels on the device.

        Args:
            seed: with the epoch's number, decides order and augmentation.
            pad: random crops of the image with this many black pixels around it; 0 crops nothing.

        Raises:
            UsageError: there are fewer images than one batch takes.
        """
        if batch_size > len(x):
            raise UsageError(
                f"--batch-size {batch_size} is more than the {len(x)} training images: choose a smaller one"
            )
        self.batch_size, self.seed, self.pad, self.flip = batch_size, seed, pad, flip
        self._x, self._y = F.pad(x, (pad,) * 4) if pad else x, y
        self._height, self._width = x.shape[2:]
        self._plan: tuple[int, Plan] | None = None

    def resized(self, batch_size: int) -> "Loader":
        """The same images, in batches of another size."""
        other = copy.copy(self)
        other.batch_size, other._plan = batch_size, None
        return other

    def __len__(self) -> int:
        return len(self._x) // self.batch_size

    def batch(self, k: int) -> Batch:
        """Batch number k of the whole run, counted from 0 over all epochs; the same whatever was asked before."""
        return self.gather(self.plan(k))

    def plan(self, k: int) -> Plan:
        """The part of its epoch's plan that batch number k carries out, (B,) each."""
        epoch, index = divmod(k, len(self))
        part = slice(index * self.batch_size, (index + 1) * self.batch_size)
        return Plan(*(values[part] for values in self._plan_of(epoch)))

    def crop_flip(self, plan: Plan) -> CropFlip:
        """How the images of the batch that `plan` asks for are cropped and mirrored."""
        top, left = (plan.top, plan.left) if self.pad else (None, None)
        return CropFlip(self.pad, top, left, plan.flip if self.flip else None)

    def gather(self, plan: Plan) -> Batch:
        """The batch that `plan` asks for."""
        pixels = self._augmented(plan) if self.pad or self.flip else self._x[plan.rows]
        return Batch(to_float(pixels), self._y[plan.rows], plan.rows)

    def _plan_of(self, epoch: int) -> Plan:
        if self._plan is None or self._plan[0] != epoch:
            count, device = len(self._x), self._x.device
            self._plan = (epoch, draw_plan(count, self.pad, seed=self.seed, epoch=epoch, device=device))
        return self._plan[1]

    def _augmented(self, plan: Plan) -> Tensor:
        """Crop and mirror in one gather: for every pixel of the result, where it lies in the padded image."""
        device = self._x.device
        down, across = self.crop_flip(plan).places(self._height, self._width, plan.rows)
        channels = torch.arange(self._x.shape[1], device=device)
        rows = plan.rows[:, None, None, None]
        return self._x[rows, channels[None, :, None, None], down[:, None, :, None], across[:, None, None, :]]
