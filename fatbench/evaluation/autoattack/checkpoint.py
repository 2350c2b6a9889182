"""Checkpoint of an AutoAttack evaluation: how far it is, what it has found, and the file that keeps both."""

from __future__ import annotations

import io
import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from fatbench.errors import UsageError
from fatbench.io.atomic import write_atomically
from fatbench.io.npz import read_arrays
from fatbench.record.samples import STANDING

CLEAN = 1  # in broken_by: wrong without an attack
_LARGEST = 2**28  # bytes; a million images take 1 MB
_LAYOUT = {"fingerprint": "U", "broken_by": "i1", "counters": "i8", "seconds": "f8", "warnings": "U"}


@dataclass
class Checkpoint:
    """The state of an evaluation; it changes chunk by chunk, and may be saved after each."""

    broken_by: Tensor  # (N,) int8, on the CPU, as in EvalResult
    part_seconds: list[float]  # of every attack
    batch_size: int  # images in the next chunk
    attack: int = 0  # the one under way, counted from 0
    position: int = 0  # how many of the images that stood at its start it has attacked
    seconds: float = 0.0  # of everything
    warnings: list[str] = field(default_factory=list)

    @property
    def alive(self) -> Tensor:
        """(n,) int64, the images that stood when the attack under way began."""
        stood = (self.broken_by == STANDING) | (self.broken_by == self._number)
        return stood.nonzero().squeeze(1)

    @property
    def _number(self) -> int:
        return CLEAN + 1 + self.attack

    def settle(self, chunk: Tensor, fallen: Tensor, seconds: float) -> None:
        """The attack has tried the images `chunk`, (n,) int64, in so many seconds, and (n,) these have fallen."""
        self.broken_by[chunk[fallen.cpu()]] = self._number
        self.position += len(chunk)
        self.part_seconds[self.attack] += seconds


def fingerprint(model: nn.Module, x: Tensor, y: Tensor, setting: Mapping[str, object]) -> str:
    """Return a hash of what decides what an evaluation finds: weights, buffers, images, labels and `setting`."""
    digest = sha256(json.dumps(setting, sort_keys=True).encode())
    for name, tensor in (*model.named_parameters(), *model.named_buffers(), ("images", x), ("labels", y)):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def save_checkpoint(checkpoint: Checkpoint, mark: str, path: Path) -> None:
    """Write the checkpoint of the evaluation with the fingerprint `mark` to `path`, atomically.

    Raises:
        ResourceError: the file cannot be written.
    """
    content = io.BytesIO()
    np.savez(
        content,
        allow_pickle=False,
        fingerprint=np.array(mark, dtype=np.str_),
        broken_by=checkpoint.broken_by.numpy(),
        counters=np.array([checkpoint.attack, checkpoint.position, checkpoint.batch_size], dtype=np.int64),
        seconds=np.array([checkpoint.seconds, *checkpoint.part_seconds]),
        warnings=np.array(checkpoint.warnings, dtype=np.str_),
    )
    write_atomically(path, content.getvalue())


def load_checkpoint(path: Path, mark: str, images: int, attacks: int) -> Checkpoint | None:
    """Return the checkpoint in the file `path`, or None where there is none, or that of another evaluation.

    Args:
        mark: the evaluation's fingerprint.

    Raises:
        UsageError: the file is damaged.
    """
    if not path.exists():
        return None

    def wanted(there: Collection[str]) -> Collection[str]:
        missing = next((name for name in _LAYOUT if name not in there), None)
        if missing is not None:
            raise UsageError(f"{path} is damaged: it holds no '{missing}'")
        return _LAYOUT

    arrays = read_arrays(path, wanted, _LARGEST)
    if arrays["fingerprint"].tolist() != mark:
        return None
    _check(arrays, path, images, attacks)
    attack, position, batch_size = arrays["counters"].tolist()
    seconds, *part_seconds = arrays["seconds"].tolist()
    broken_by, warnings = torch.from_numpy(arrays["broken_by"].copy()), arrays["warnings"].tolist()
    checkpoint = Checkpoint(broken_by, part_seconds, batch_size, attack, position, seconds, warnings)
    if position > len(checkpoint.alive):
        raise UsageError(f"{path} is damaged: it has attacked more images than there were")
    return checkpoint


def _check(arrays: Mapping[str, NDArray[Any]], path: Path, images: int, attacks: int) -> None:
    shapes = {"fingerprint": (), "broken_by": (images,), "counters": (3,), "seconds": (1 + attacks,)}
    for name, kind in _LAYOUT.items():
        array = arrays[name]
        fits = array.dtype.kind == "U" if kind == "U" else array.dtype == np.dtype(kind)
        if not fits or array.shape != shapes.get(name, (array.size,)):
            raise UsageError(f"{path} is damaged: '{name}' is {array.dtype} of shape {array.shape}")
    broken_by, seconds = arrays["broken_by"], arrays["seconds"]
    attack, position, batch_size = arrays["counters"].tolist()
    within = not images or 0 <= int(broken_by.min()) <= int(broken_by.max()) <= CLEAN + attacks
    counted = 0 <= attack <= attacks and position >= 0 and batch_size > 0
    if not (within and counted and bool((np.isfinite(seconds) & (seconds >= 0)).all())):
        raise UsageError(f"{path} is damaged: its numbers cannot be right")
