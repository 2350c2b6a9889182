"""Weights on disk: safetensors, so that loading them runs nothing."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

import safetensors.torch
from safetensors import SafetensorError
from torch import Tensor, nn

from fatbench.errors import UsageError
from fatbench.io.atomic import write_atomically
from fatbench.io.safe_read import read_file
from fatbench.models import LARGEST


def save_weights(weights: Mapping[str, Tensor], path: Path, metadata: dict[str, str]) -> str:
    """Write a model's parameters and buffers to `path`, wholly or not at all, and return the file's sha256.

    Raises:
        ResourceError: the file cannot be written.
    """
    # Copies: safetensors refuses tensors that share memory, as tied weights do.
    tensors = {name: tensor.detach().to("cpu", copy=True).contiguous() for name, tensor in weights.items()}
    content = _with_metadata(safetensors.torch.save(tensors), metadata)
    write_atomically(path, content)
    return hashlib.sha256(content).hexdigest()


def _with_metadata(content: bytes, metadata: dict[str, str]) -> bytes:
    """Return the file with the metadata in its header, in a fixed order: safetensors writes them in any."""
    start = 8 + int.from_bytes(content[:8], "little")
    header = json.dumps({"__metadata__": metadata} | json.loads(content[8:start]), separators=(",", ":")).encode()
    header += b" " * (-len(header) % 8)
    return len(header).to_bytes(8, "little") + header + content[start:]


def load_weights(model: nn.Module, path: Path, run_id: str, sha256: str | None = None) -> None:
    """Put into the model what `save_weights` wrote of the run `run_id`, wholly or not at all.

    Args:
        run_id: that the weights have to be of.
        sha256: of the file as it was written; None: not known.

    Raises:
        UsageError: the file cannot be read, is not as it was written, or is of another run or model.
    """
    try:
        content = read_file(path, LARGEST)
        if sha256 is not None and hashlib.sha256(content).hexdigest() != sha256:
            raise ValueError("it is not as it was written")
        weights, metadata = tensors_in(content)
    except (UsageError, ValueError) as error:
        raise UsageError(f"cannot load {path}: {error}") from None
    if metadata.get("id") != run_id:
        raise UsageError(f"{path} holds the weights of another run")
    mine = {name: tensor.shape for name, tensor in model.state_dict().items()}
    if {name: tensor.shape for name, tensor in weights.items()} != mine:
        raise UsageError(f"cannot load {path}: it is of another model")  # load_state_dict would load half of it first
    model.load_state_dict(weights)


def tensors_in(content: bytes) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Return the tensors of a safetensors file by name, and what its header says besides them.

    Raises:
        ValueError: it is no such file, or damaged.
    """
    try:
        tensors = safetensors.torch.load(content)
        header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
        return tensors, header.get("__metadata__", {})
    except (SafetensorError, KeyError, RuntimeError, OverflowError) as error:
        raise ValueError(f"it is no safetensors file ({error!s:.120})") from None
