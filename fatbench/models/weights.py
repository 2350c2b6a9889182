"""Weights out of untrusted files, by name. Nothing in a file is ever executed, and every failure is one clear line."""

import hashlib
import io
import pickle
import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

from fatbench.errors import UsageError
from fatbench.io.safe_read import is_directory, read_file
from fatbench.models import LARGEST

# Where training scripts put a state dict beside an optimiser's state and counters, the plain weights before averages.
_ENTRIES = (
    "state_dict",
    "model_state_dict",
    "model_state",
    "model",
    "net",
    "network",
    "weights",
    "params",
    "ema",
    "ema_state_dict",
    "state_dict_ema",
    "model_ema",
)
_SAVE = "save model.state_dict() with torch.save or safetensors"
_AGAIN = "save, copy or download it again"


@dataclass(frozen=True, eq=False)
class Weights:
    """A checkpoint's tensors by name, on the CPU."""

    tensors: dict[str, Tensor]
    sha256: str  # of the file
    entry: str | None = None  # of the file's dictionary that holds them; None: they are all that there is
    others: tuple[str, ...] = ()  # entries that hold weights too


def read_weights(path: Path) -> Weights:
    """Return the weights in a .safetensors file, or in what torch.save wrote: a state dict, or one among other things.

    Raises:
        UsageError: the file is not there, damaged, or holds anything but weights; the line says what to do.
    """
    content = _content(path)
    found = _safetensors(content, path) if path.suffix == ".safetensors" else _torch(content, path)
    sha256 = hashlib.sha256(content).hexdigest()
    if not isinstance(found, Mapping):
        raise UsageError(f"{path} holds a {type(found).__name__}, not weights by name: {_SAVE}")
    direct = _tensors(found)
    entries = [name for name in _ENTRIES if _tensors(found.get(name))]
    if not direct:
        entries += [str(name) for name in found if name not in entries and _tensors(found[name])]
    if entries:
        return Weights(_tensors(found[entries[0]]), sha256, entries[0], tuple(entries[1:]))
    if not direct:
        holds = ", ".join(f"{name!s:.40}" for name in list(found)[:6]) or "nothing"
        raise UsageError(f"{path} holds {holds}, and no weights among it: {_SAVE}")
    return Weights(direct, sha256)


def _tensors(found: object) -> dict[str, Tensor]:
    """The tensors of a dictionary by name; what else a training script has put there, such as an epoch, is left out."""
    if not isinstance(found, Mapping):
        return {}
    return {name: value for name, value in found.items() if isinstance(name, str) and isinstance(value, Tensor)}


def _content(path: Path) -> bytes:
    if is_directory(path):
        raise UsageError(f"{path} is a folder: give the file of the weights, such as {path / 'model.safetensors'}")
    content = read_file(path, LARGEST)
    if not content:
        raise UsageError(f"{path} is empty: {_AGAIN}")
    if content[:256].lstrip().startswith(b"<"):
        raise UsageError(f"{path} is a web page, not a checkpoint: the download went wrong, fetch the file itself")
    if content.startswith(b"version https://git-lfs"):
        raise UsageError(f"{path} only points to the checkpoint: fetch the file itself with git lfs pull")
    return content


def _safetensors(content: bytes, path: Path) -> Any:
    try:
        return safetensors.torch.load(content)
    except (SafetensorError, KeyError, ValueError, RuntimeError, OverflowError) as error:
        raise UsageError(f"{path} is no safetensors file, or is cut short ({error!s:.120}): {_AGAIN}") from None


def _torch(content: bytes, path: Path) -> Any:
    try:
        with warnings.catch_warnings(action="ignore"):
            return torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except (MemoryError, KeyboardInterrupt):
        raise
    # A damaged file fails in many ways: UnpicklingError, RuntimeError, EOFError, UnicodeDecodeError, struct.error, ...
    except Exception as error:
        raise UsageError(f"{path} {_what_is_wrong(error)}") from None


def _what_is_wrong(error: Exception) -> str:
    message = str(error)
    if isinstance(error, pickle.UnpicklingError):
        named = re.search(r"GLOBAL ([\w.]+)|Trying to (?:load|instantiate|call) (?:class |type )?([\w.]+)", message)
        if named:
            what = f"holds Python objects ({named[1] or named[2]:.80}), which could run anything and are not loaded"
            return f"{what}: {_SAVE}, and no more than that"
    if "TorchScript" in message:
        return f"is a TorchScript program, not weights: {_SAVE}"
    return f"is no checkpoint that torch.save wrote, or is cut short: {_AGAIN}"
