"""Constraints: what images, labels, radius and attacked images must be for a score to mean anything.

Raises, everywhere here: InvalidRunError with the remedy, as no result would be worth keeping.
"""

import torch
from torch import Tensor

from fatbench.errors import InvalidRunError
from fatbench.threat import Ball, Linf

ROUNDING = 1e-6  # of a pixel in [0, 1]


def check_attack(z: Tensor, x: Tensor, ball: Ball, attack: str) -> None:
    """Return if the attacked images z lie in the ball around x and in [0, 1]; a "break" elsewhere would be none.

    Pixels that a gradient of NaN has made NaN are let through: the logits follow them, and the image counts as wrong.

    Raises:
        InvalidRunError: they do not.
    """
    if not len(z):
        return
    moved = torch.where(z.isnan(), x, z)
    furthest, low, high = float(ball.distance(moved, x).max()), float(moved.min()), float(moved.max())
    if furthest > ball.eps * (1 + 1e-4) + ROUNDING:
        raise InvalidRunError(f"{attack} moved an image by {furthest:.6g}, more than eps {ball.eps:.6g}")
    if not _in_box(low, high):
        raise InvalidRunError(f"{attack} left the pixels' range [0, 1]: its images span [{low:.3g}, {high:.3g}]")


def check_images(x: Tensor) -> None:
    """Return if x are float images (B, C, H, W) in [0, 1]."""
    if x.dim() != 4 or not len(x):
        raise InvalidRunError(f"the images have shape {tuple(x.shape)}, expected (B, C, H, W) with at least 1 image")
    if not x.is_floating_point():
        raise InvalidRunError(f"the images are {kind_of(x)}, expected floats in [0, 1]: divide 8-bit pixels by 255")
    low, high = float(x.min()), float(x.max())
    if _in_box(low, high):
        return
    remedy = "they hold NaN or infinity"
    if low < 0 and high < float("inf"):
        remedy = "give them as they are and normalise inside the model (--normalize MEAN,STD)"
    elif 1 < high <= 255:
        remedy = "divide 8-bit pixels by 255"
    raise InvalidRunError(f"the images span [{low:.3g}, {high:.3g}], expected [0, 1]: {remedy}")


def check_labels(y: Tensor, images: int, num_classes: int) -> None:
    """Return if y are int64 labels (B,) of so many images, in 0..num_classes - 1."""
    if y.dtype != torch.int64 or y.shape != (images,):
        what = f"{kind_of(y)} of shape {tuple(y.shape)}"
        raise InvalidRunError(f"the labels are {what}, expected int64 of shape ({images},): use y.long()")
    low, high = int(y.min()), int(y.max())
    if low < 0 or high >= num_classes:
        raise InvalidRunError(f"the labels span {low}..{high}, but the model tells 0..{num_classes - 1} apart")


def check_ball(ball: Ball) -> None:
    """Return if the radius is plausible."""
    if not ball.eps > 0:
        raise InvalidRunError(f"eps is positive, not {ball.eps:g}")
    if isinstance(ball, Linf) and ball.eps > 1:
        raise InvalidRunError(f"eps {ball.eps:g} is beyond the pixels' range [0, 1]; did you mean {ball.eps:g}/255?")


def _in_box(low: float, high: float) -> bool:
    return low >= -ROUNDING and high <= 1 + ROUNDING


def kind_of(tensor: Tensor) -> str:
    """Return "float32", "uint8", ..."""
    return str(tensor.dtype).removeprefix("torch.")
