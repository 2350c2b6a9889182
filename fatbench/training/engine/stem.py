"""How many channels the first convolution should take: three are an odd number for tensor cores."""

import time

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fatbench.training.clock import synchronize

_CANDIDATES = (4, 8)
_GAIN = 0.95  # of the time as it is: what a padded stem must beat, for padding is not free
_ROUNDS = 20


def fastest_stem(stem: nn.Conv2d, shape: tuple[int, int, int, int], dtype: torch.dtype, device: torch.device) -> int:
    """Return the number of input channels, padded with zeros, at which an attack's passes through `stem` are fastest.

    Measured here and now: a forward and an input gradient, which every attack step needs.

    Args:
        stem: the network's first convolution.
        shape: (B, C, H, W) of its input.
        dtype: that it computes in.
        device: where it does.
    """
    batch, channels, *size = shape
    images = torch.zeros(batch, channels, *size, dtype=dtype, device=device)
    seconds = {}
    for width in [channels, *(one for one in _CANDIDATES if one > channels)]:
        weight = torch.zeros(stem.out_channels, width, *stem.kernel_size, dtype=dtype, device=device)
        weight = weight.to(memory_format=torch.channels_last)
        seconds[width] = _measured(stem, images, weight, device)
    best = min(seconds, key=lambda width: seconds[width])
    return best if seconds[best] < _GAIN * seconds[channels] else channels


def _measured(stem: nn.Conv2d, images: Tensor, weight: Tensor, device: torch.device) -> float:
    """Seconds of the fastest of some rounds, padding included."""
    fastest = float("inf")
    for _ in range(_ROUNDS):
        leaf = images.detach().requires_grad_()
        synchronize(device)
        started = time.perf_counter()
        with torch.enable_grad():
            output = F.conv2d(widened(leaf, weight.shape[1]), weight, None, stem.stride, stem.padding, stem.dilation)
            torch.autograd.grad(output, leaf, torch.ones_like(output))
        synchronize(device)
        fastest = min(fastest, time.perf_counter() - started)
    return fastest


def widened(x: Tensor, channels: int) -> Tensor:
    """Return (B, C, H, W) images with zeros in the channels beyond theirs, up to `channels`; channels last."""
    return F.pad(x, (0, 0, 0, 0, 0, channels - x.shape[1])).contiguous(memory_format=torch.channels_last)
