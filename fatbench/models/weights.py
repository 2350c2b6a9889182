"""Weights out of untrusted files, by name. Nothing in a file is ever executed, and every failure is one clear line."""

import hashlib
import io
import pickle
import re
import warnings
import zipfile
from collections.abc import Iterator, Mapping
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
from fatbench.models.stand_ins import pickled_module, stand_ins

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
_UNREADABLE = (pickle.UnpicklingError, ValueError, TypeError, AttributeError)
_OLD_FORMAT = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."  # torch's before 1.6
_DEPTH = 3  # of dictionaries in dictionaries
_AGAIN = "save, copy or download it again"


@dataclass(frozen=True, eq=False)
class Weights:
    """A checkpoint's tensors by name, on the CPU."""

    tensors: dict[str, Tensor]
    sha256: str  # of the file
    entry: str | None = None  # of the file's dictionary that holds them; None: they are all that there is
    others: tuple[str, ...] = ()  # entries that hold weights too


def read_weights(path: Path, key: str | None = None) -> Weights:
    """Return the weights in a .safetensors file, or in what torch.save wrote: a state dict, or one among other things.

    Args:
        key: where in the file they are, as model_ema; state_dict.model is within an entry, or a prefix of names.

    Raises:
        UsageError: the file is not there, damaged, or holds anything but weights; the line says what to do.
    """
    content = _content(path)
    is_safetensors = path.suffix == ".safetensors" or content[8:10] == b'{"'
    found = _safetensors(content, path) if is_safetensors else _torch(content, path)
    sha256 = hashlib.sha256(content).hexdigest()
    if pickled_module(found):
        raise UsageError(f"{path} is a {_pickled(found)}: {_resaved(path, 'x.state_dict()')}")
    if not isinstance(found, Mapping):
        raise UsageError(f"{path} holds a {type(found).__name__}, not weights by name: {_SAVE}")
    if key is not None:
        return Weights(_asked_for(found, key, path), sha256, key)
    direct = _tensors(found)
    entries = [name for name in _ENTRIES if _tensors(found.get(name))]
    if not direct:
        places = [name for name in _places(found, _DEPTH) if name not in entries]
        entries += sorted(places, key=lambda name: -len(_tensors(_at(found, name))))  # a score may be a tensor too
    if entries:
        tensors = _tensors(_at(found, entries[0]))
        models = [name for name in entries[1:] if len(_tensors(_at(found, name))) > len(tensors) // 2]  # not a loss's
        return Weights(tensors, sha256, entries[0], tuple(models))
    if not direct:
        raise UsageError(f"{path} {_no_weights(found, path)}")
    return Weights(direct, sha256)


def _asked_for(found: Mapping[Any, Any], key: str, path: Path) -> dict[str, Tensor]:
    chosen = _at(found, key)
    tensors = _tensors(chosen)
    if tensors:
        return tensors
    if pickled_module(chosen):
        place = "".join(f"[{one!r}]" for one in ([key] if key in found else key.split(".")))
        raise UsageError(f"{path}: its '{key:.60}' is a {_pickled(chosen)}: {_resaved(path, f'x{place}.state_dict()')}")
    there = ", ".join(f"{name:.60}" for name in list(_places(found, _DEPTH))[:6])
    raise UsageError(f"{path} has no weights at '{key:.60}' (--checkpoint-key); it has them at {there or 'no key'}")


def _at(found: Any, key: str) -> Any:
    """What a dotted key leads to: entries within entries, or all tensors whose names begin with it; None: nothing."""
    if not isinstance(found, Mapping) or key in found:
        return found.get(key) if isinstance(found, Mapping) else None
    inside = {name[len(key) + 1 :]: value for name, value in _tensors(found).items() if name.startswith(f"{key}.")}
    dots = [place for place, character in enumerate(key) if character == "."]
    nested = (_at(found[key[:dot]], key[dot + 1 :]) for dot in dots if key[:dot] in found)
    return inside or next((one for one in nested if one is not None), None)


def _places(found: Mapping[Any, Any], depth: int) -> Iterator[str]:
    """The dotted keys of all entries that hold tensors, those of the outermost first."""
    entries = {name: value for name, value in found.items() if isinstance(name, str) and isinstance(value, Mapping)}
    yield from (name for name, value in entries.items() if _tensors(value))
    if depth > 1:
        for name, value in entries.items():
            yield from (f"{name}.{place}" for place in _places(value, depth - 1))


def _no_weights(found: Mapping[Any, Any], path: Path) -> str:
    pickled = next((name for name, value in found.items() if pickled_module(value)), None)
    holds = ", ".join(f"{name!s:.40}" for name in list(found)[:6]) or "nothing"
    if pickled is None:
        return f"holds {holds}, and no weights among it: {_SAVE}"
    what = f"'{pickled!s:.40}' is a {_pickled(found[pickled])}"
    return f"holds {holds}, and no weights among it; {what}: {_resaved(path, f'x[{pickled!r:.60}].state_dict()')}"


def _pickled(found: object) -> str:
    return f"pickled {pickled_module(found):.80}, whose code would have to run"


def _resaved(path: Path, weights: str) -> str:
    """How to save the weights alone, for one who trusts the file."""
    return f"if you trust it, `x = torch.load('{path}', weights_only=False); torch.save({weights}, 'weights.pt')`"


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
        with warnings.catch_warnings(action="ignore"), torch.serialization.safe_globals(stand_ins(content)):
            return torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except (MemoryError, KeyboardInterrupt):
        raise
    # A damaged file fails in many ways: UnpicklingError, RuntimeError, EOFError, UnicodeDecodeError, struct.error, ...
    except Exception as error:
        whole = content.startswith(_OLD_FORMAT) or zipfile.is_zipfile(io.BytesIO(content))
        raise UsageError(f"{path} {_what_is_wrong(error, path, whole=whole)}") from None


def _what_is_wrong(error: Exception, path: Path, *, whole: bool) -> str:
    message = str(error)
    remedy = _resaved(path, "x.state_dict()" if "persistent_load" in message else "x['state_dict']")  # a whole model's
    named = re.search(r"GLOBAL ([\w.]+)|Trying to (?:load|instantiate) (?:class |type )?([\w.]+)", message)
    if named and isinstance(error, pickle.UnpicklingError):
        what = f"holds Python objects ({named[1] or named[2]:.80}), which could run anything and are not loaded"
        return f"{what}: {remedy}"
    if whole and isinstance(error, _UNREADABLE):
        return f"holds Python objects that cannot be read without running their code: {remedy}"
    if "TorchScript" in message:
        return f"is a TorchScript program, not weights: {_SAVE}"
    return f"is no checkpoint that torch.save wrote, or is cut short: {_AGAIN}"
