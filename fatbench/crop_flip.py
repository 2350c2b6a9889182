"""View: how the images of a batch were cropped and mirrored, so that what a method remembers of them can follow."""

from typing import NamedTuple

import torch
from torch import Tensor


class CropFlip(NamedTuple):
    """Where in its padded image each image of a batch was cut out, and whether it was mirrored then.

    Tensors are (B,), on the device; None where nothing is cropped or mirrored.
    """

    pad: int = 0  # pixels around the image, on each side
    top: Tensor | None = None  # int64 in [0, 2 pad]: where the crop begins
    left: Tensor | None = None  # likewise
    flip: Tensor | None = None  # bool

    def crop(self, canvas: Tensor) -> Tensor:
        """Return (B, C, H, W) out of padded images (B, C, H + 2 pad, W + 2 pad), as the batch's images were."""
        rows, columns = self.places(canvas.shape[-2] - 2 * self.pad, canvas.shape[-1] - 2 * self.pad, canvas)
        return canvas[_images(canvas), _channels(canvas), rows[:, None, :, None], columns[:, None, None, :]]

    def paste(self, z: Tensor, canvas: Tensor) -> Tensor:
        """Return a copy of the padded images with z, (B, C, H, W), put back where `crop` found it."""
        rows, columns = self.places(z.shape[-2], z.shape[-1], canvas)
        pasted = canvas.clone()
        pasted[_images(z), _channels(z), rows[:, None, :, None], columns[:, None, None, :]] = z.to(canvas.dtype)
        return pasted

    def places(self, height: int, width: int, batch: Tensor) -> tuple[Tensor, Tensor]:
        """Return the rows (B, H) and columns (B, W) of the padded images in which the crop's pixels lie."""
        rows = torch.arange(height, device=batch.device).expand(len(batch), -1)
        columns = torch.arange(width, device=batch.device).expand(len(batch), -1)
        if self.flip is not None:
            columns = torch.where(self.flip[:, None], width - 1 - columns, columns)
        if self.top is not None and self.left is not None:
            rows, columns = rows + self.top[:, None], columns + self.left[:, None]
        return rows, columns


NO_CROP = CropFlip()


def _images(batch: Tensor) -> Tensor:
    return torch.arange(len(batch), device=batch.device)[:, None, None, None]


def _channels(batch: Tensor) -> Tensor:
    return torch.arange(batch.shape[1], device=batch.device)[None, :, None, None]
