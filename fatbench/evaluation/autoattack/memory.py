"""How many images the fast engine attacks at a time."""

import torch
from torch import Tensor, nn

_MOST = 2048  # images; a GPU is no faster beyond
_SHARE = 0.5  # of free memory that a chunk's activations may take
_BACKWARD = 2  # times the activations: gradients flow beside them


def enlarged_batch_size(model: nn.Module, x: Tensor, images: int, batch_size: int) -> int:
    """Return the batch size for attacking so many images: on a GPU as large as pays and its free memory allows.

    Args:
        model: takes images like x.
        x: (B, C, H, W), a chunk of `batch_size` images or fewer.
        images: to be attacked.
        batch_size: asked for; what comes back is it, doubled as often as may be.
    """
    if x.device.type != "cuda":
        return batch_size  # a CPU is as fast on few images as on many
    before = torch.cuda.memory_allocated(x.device)
    with torch.enable_grad():
        logits = model(x.detach().requires_grad_())
        each = (torch.cuda.memory_allocated(x.device) - before) / len(x)
    del logits
    free, _ = torch.cuda.mem_get_info(x.device)
    cached = torch.cuda.memory_reserved(x.device) - torch.cuda.memory_allocated(x.device)
    return largest_batch(batch_size, images, _BACKWARD * each, free + cached)


def largest_batch(batch_size: int, images: int, bytes_each: float, bytes_free: int) -> int:
    """Return `batch_size`, doubled until it holds all images, is large enough, or would need too much memory."""
    size = batch_size
    while size < images and 2 * size <= _MOST and 2 * size * bytes_each <= _SHARE * bytes_free:
        size *= 2
    return size
