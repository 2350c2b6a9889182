"""Images as the scripts get them: one at a time out of memory, transformed on the CPU, in batches by a DataLoader."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, RandomSampler
from torchvision import transforms

_ENDLESS = 10**12  # images


@dataclass(frozen=True)
class Images:
    """A training set and what a script does with it."""

    x: NDArray[np.uint8]  # (N, C, H, W)
    y: NDArray[np.int64]  # (N,)
    batch_size: int
    pad: int  # random crops out of the image with this much padding; 0 crops nothing
    flip: bool


class PilImages(Dataset[tuple[Tensor, int]]):
    """Items as torchvision.datasets.CIFAR10 makes them: a PIL image out of an array, then torchvision's transforms."""

    def __init__(self, images: Images) -> None:
        grey = images.x.shape[1] == 1
        self.data = np.ascontiguousarray(images.x[:, 0] if grey else images.x.transpose(0, 2, 3, 1))
        self.targets = images.y.tolist()
        steps: list[Any] = [transforms.RandomCrop(images.x.shape[2:], padding=images.pad)] if images.pad else []
        steps += [transforms.RandomHorizontalFlip()] if images.flip else []
        self.transform = transforms.Compose([*steps, transforms.ToTensor()])

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.transform(Image.fromarray(self.data[index])), self.targets[index]


class CroppedArrays(Dataset[tuple[NDArray[np.float32], int]]):
    """Items as Rice et al. make them: slices of padded floating-point arrays, at places drawn before the epoch."""

    def __init__(self, images: Images) -> None:
        count, _, self.height, self.width = images.x.shape
        margin = (images.pad, images.pad)
        self.data = np.pad(images.x, ((0, 0), (0, 0), margin, margin), mode="reflect").astype(np.float32) / 255
        self.targets = images.y.tolist()
        draw = np.random.default_rng(0)
        self.top, self.left = draw.integers(0, 2 * images.pad + 1, (2, count))
        self.mirrored = draw.integers(0, 2, count).astype(bool) & images.flip

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, index: int) -> tuple[NDArray[np.float32], int]:
        top, left = self.top[index], self.left[index]
        image = self.data[index, :, top : top + self.height, left : left + self.width]
        return (image[:, :, ::-1].copy() if self.mirrored[index] else image), self.targets[index]


def batches(dataset: Dataset[Any], images: Images, device: torch.device, *, workers: int) -> DataLoader[Any]:
    """Return a DataLoader over an epoch without end; its memory is pinned for a GPU, as in all the scripts."""
    return DataLoader(
        dataset,
        batch_size=images.batch_size,
        sampler=RandomSampler(dataset, replacement=True, num_samples=_ENDLESS),  # type: ignore[arg-type]
        num_workers=workers,
        pin_memory=device.type == "cuda",
    )
