"""Dataset: the images of a run, split, on one device."""

from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor

from fatbench.data.ranking import hash_priority, stratified_order
from fatbench.errors import UsageError

_CHUNK = 1024  # images whose squares are summed at once, to bound memory


@dataclass(frozen=True, eq=False)
class Dataset:
    """Training, validation and test images, uint8 (N, C, H, W) and contiguous, with int64 (N,) labels."""

    name: str
    x_train: Tensor
    y_train: Tensor
    x_val: Tensor
    y_val: Tensor
    x_test: Tensor
    y_test: Tensor
    num_classes: int
    subset: bool  # whether training images were left out on request
    sha256: str  # of the whole set, before validation images were held out or any left out: seeds and subsets share it
    classes: tuple[str, ...] = ()  # their names, by label, where they have any
    notes: tuple[str, ...] = ()  # what a reader of a result should know about the images

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C, H, W) of every image."""
        _, channels, height, width = self.x_train.shape
        return channels, height, width

    @property
    def mean(self) -> tuple[float, ...]:
        """Of the training images in [0, 1], per channel."""
        return self._moments[0]

    @property
    def std(self) -> tuple[float, ...]:
        """Of the training images in [0, 1], per channel; at least 1/255, so that a constant channel divides."""
        return self._moments[1]

    def to(self, device: torch.device | str) -> "Dataset":
        """The same dataset, on `device`."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        tensors = {name: value.to(device) for name, value in values.items() if isinstance(value, Tensor)}
        return replace(self, **tensors)  # type: ignore[arg-type]

    def test_subset(self, n: int | None) -> Tensor:
        """Rows of n test images, stratified, (n,) int64; all rows in the file's order if n is None or reaches them.

        Images are ranked by the sha256 of their pixels, so the choice is the same for every seed, run and order of the
        file, and a smaller subset is the beginning of a larger one.

        Raises:
            UsageError: n is not positive.
        """
        if n is not None and n < 1:
            raise UsageError(f"a test subset has at least 1 image, not {n}")
        if n is None or n >= len(self.x_test):
            return torch.arange(len(self.x_test), device=self.x_test.device)
        return self.test_order[:n].clone()

    @cached_property
    def test_order(self) -> Tensor:
        """(N,) int64: the test images' rows in an order of which every beginning is a subset as above."""
        order = stratified_order(_numpy(self.y_test), hash_priority(_numpy(self.x_test)))
        return torch.tensor(order, device=self.x_test.device)

    @cached_property
    def _moments(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        # Integer sums are exact: no number depends on the device, the chunks or the threads.
        total, squares = torch.zeros(2, self.shape[0], dtype=torch.int64, device=self.x_train.device)
        for start in range(0, len(self.x_train), _CHUNK):
            pixels = self.x_train[start : start + _CHUNK].to(torch.int32)
            total += pixels.sum(dim=(0, 2, 3), dtype=torch.int64)
            squares += (pixels * pixels).sum(dim=(0, 2, 3), dtype=torch.int64)
        count = self.x_train.numel() // self.shape[0]
        mean = [value / count for value in total.tolist()]
        variance = [square / count - m * m for square, m in zip(squares.tolist(), mean, strict=True)]
        return tuple(m / 255 for m in mean), tuple(max(v, 1.0) ** 0.5 / 255 for v in variance)


def _numpy(tensor: Tensor) -> NDArray[Any]:
    array: NDArray[Any] = tensor.cpu().numpy()
    return array
