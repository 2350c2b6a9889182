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


def load_weights(model: nn.Module, path: Path, run_id: str) -> None:
    """Put into the model what `save_weights` wrote of the run `run_id`, wholly or not at all.

    Raises:
        UsageError: the file cannot be read, or is of another run or model.
    """
    try:
        with safetensors.safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
        weights = safetensors.torch.load(path.read_bytes())
    except (OSError, SafetensorError, KeyError, ValueError, RuntimeError, OverflowError) as error:
        raise UsageError(f"cannot load {path}: {error}; --force trains anew") from None
    if metadata.get("id") != run_id:
        raise UsageError(f"{path} holds the weights of another run")
    mine = {name: tensor.shape for name, tensor in model.state_dict().items()}
    if {name: tensor.shape for name, tensor in weights.items()} != mine:
        raise UsageError(f"cannot load {path}: it is of another model")  # load_state_dict would load half of it first
    model.load_state_dict(weights)
