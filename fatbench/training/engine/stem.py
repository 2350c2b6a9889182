"""How many channels the first convolution should take: three are an odd number for tensor cores."""

import time

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fatbench.training.clock import synchronize
from fatbench.training.engine.capture import record_cuda_graph

_CANDIDATES = (4, 8)
_GAIN = 0.95  # of the time as it is: what a padded stem must beat, for padding is not free
_ROUNDS, _BLOCKS = 10, 5


def fastest_stem(stem: nn.Conv2d, shape: tuple[int, int, int, int], dtype: torch.dtype, device: torch.device) -> int:
    """Return the number of input channels, padded with zeros, at which an attack's passes through `stem` are fastest.

    Measured here and now, for an input of `shape`, (B, C, H, W): a forward and an input gradient, which every attack
    step needs.
    """
    batch, channels, *size = shape
    images = torch.zeros(batch, channels, *size, dtype=dtype, device=device)
    images = images.contiguous(memory_format=torch.channels_last)
    seconds = {}
    for width in [channels, *(one for one in _CANDIDATES if one > channels)]:
        weight = torch.zeros(stem.out_channels, width, *stem.kernel_size, dtype=dtype, device=device)
        weight = weight.to(memory_format=torch.channels_last)
        seconds[width] = _measured(stem, images, weight, device)
    best = min(seconds, key=lambda width: seconds[width])
    return best if seconds[best] < _GAIN * seconds[channels] else channels


def _measured(stem: nn.Conv2d, images: Tensor, weight: Tensor, device: torch.device) -> float:
    """Seconds of one forward and input gradient, padding included: the least of some blocks."""
    leaf = images.detach().requires_grad_()

    def block() -> None:
        for _ in range(_ROUNDS):
            x = leaf if weight.shape[1] == leaf.shape[1] else widened(leaf, weight.shape[1])
            with torch.enable_grad():
                output = F.conv2d(x, weight, None, stem.stride, stem.padding, stem.dilation)
                torch.autograd.grad(output, leaf, output.detach())

    # Recorded, or launching so little work would take longer than doing it.
    run = record_cuda_graph(block, device) if device.type == "cuda" else block
    spent = []
    for _ in range(_BLOCKS):
        synchronize(device)
        started = time.perf_counter()
        run()
        synchronize(device)
        spent.append(time.perf_counter() - started)
    return min(spent) / _ROUNDS


def widened(x: Tensor, channels: int) -> Tensor:
    """Return (B, C, H, W) images with zeros in the channels beyond theirs, up to `channels`; channels last."""
    return F.pad(x, (0, 0, 0, 0, 0, channels - x.shape[1])).contiguous(memory_format=torch.channels_last)
