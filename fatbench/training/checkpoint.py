"""Weights on disk: safetensors, so that loading them runs nothing."""

from pathlib import Path

import safetensors.torch
from torch import nn

from fatbench.record import write_atomically


def save_weights(model: nn.Module, path: Path, metadata: dict[str, str]) -> None:
    """Write the model's parameters and buffers (its normalisation among them) to `path`, wholly or not at all.

    Raises:
        ResourceError: the file cannot be written.
    """
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    write_atomically(path, safetensors.torch.save(tensors, metadata))
