"""Weights on disk: safetensors, so that loading them runs nothing."""

from collections.abc import Mapping
from pathlib import Path

import safetensors.torch
from safetensors import SafetensorError
from torch import Tensor, nn

from fatbench.atomic import write_atomically
from fatbench.errors import UsageError

FILE = "model.safetensors"
LAST_FILE = "last.safetensors"


def save_weights(weights: Mapping[str, Tensor], path: Path, metadata: dict[str, str]) -> None:
    """Write a model's parameters and buffers (its normalisation among them) to `path`, wholly or not at all.

    Raises:
        ResourceError: the file cannot be written.
    """
    # Copies: safetensors refuses tensors that share memory, as tied weights do.
    tensors = {name: tensor.detach().to("cpu", copy=True).contiguous() for name, tensor in weights.items()}
    write_atomically(path, safetensors.torch.save(tensors, metadata))


def load_weights(model: nn.Module, path: Path) -> None:
    """Put into the model what `save_weights` wrote of one like it.

    Raises:
        UsageError: the file cannot be read, or is of another model.
    """
    try:
        model.load_state_dict(safetensors.torch.load(path.read_bytes()))
    except (OSError, SafetensorError, RuntimeError) as error:
        raise UsageError(f"cannot load {path}: {error}") from None
