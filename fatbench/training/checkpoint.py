"""Weights on disk: safetensors, so that loading them runs nothing."""

from pathlib import Path

import safetensors.torch
from torch import nn

from fatbench.atomic import write_atomically

FILE = "model.safetensors"


def save_weights(model: nn.Module, path: Path, metadata: dict[str, str]) -> None:
    """Write the model's parameters and buffers (its normalisation among them) to `path`, wholly or not at all.

    Raises:
        ResourceError: the file cannot be written.
    """
    # Copies: safetensors refuses tensors that share memory, as tied weights do.
    tensors = {name: tensor.detach().to("cpu", copy=True).contiguous() for name, tensor in model.state_dict().items()}
    write_atomically(path, safetensors.torch.save(tensors, metadata))
