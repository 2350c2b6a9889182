"""Samples: what became of every test image under every evaluation, in a file beside the record."""

from __future__ import annotations

import io
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fatbench.errors import UsageError
from fatbench.io.atomic import write_atomically
from fatbench.io.npz import read_arrays

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

NOT_EVALUATED = -1
STANDING = 0
_MOST_PARTS = 127  # 8 bits tell them apart
_REMEDY = "`fatbench run ... --force` makes it again"
_LARGEST = 2**28  # bytes; a million images under twenty evaluations take 30 MB
_PARTS = "parts "  # before an evaluation's name: the names of its parts
_BROKEN_BY = "broken_by "  # likewise: by which of them


@dataclass(frozen=True, eq=False)
class Outcome:
    """What one evaluation did: each image's number is that of the part that broke it first, counted from 1."""

    parts: tuple[str, ...]  # "clean" (wrong without an attack), then the attacks in the order in which they ran
    broken_by: NDArray[np.int8]  # (N,): STANDING, NOT_EVALUATED, or k for parts[k - 1]

    @property
    def evaluated(self) -> NDArray[np.bool_]:
        """(N,) whether the image was looked at."""
        evaluated: NDArray[np.bool_] = self.broken_by != NOT_EVALUATED
        return evaluated

    @property
    def standing(self) -> NDArray[np.bool_]:
        """(N,) whether the image was classified correctly to the end."""
        standing: NDArray[np.bool_] = self.broken_by == STANDING
        return standing


@dataclass(frozen=True, eq=False)
class Samples:
    """The test images of a run, by the hash of their pixels, and their outcomes by evaluation."""

    hashes: NDArray[np.uint64]  # (N,) the first 64 bits of each image's sha256; equal images have equal hashes
    labels: NDArray[np.int64]  # (N,)
    outcomes: Mapping[str, Outcome]


def save_samples(samples: Samples, path: Path) -> None:
    """Write `samples` to `path`, wholly or not at all.

    Raises:
        ResourceError: the file cannot be written.
    """
    import numpy as np

    arrays: dict[str, Any] = {"hashes": samples.hashes, "labels": samples.labels}
    for name, outcome in samples.outcomes.items():
        arrays |= {_PARTS + name: np.array(outcome.parts, dtype=np.str_), _BROKEN_BY + name: outcome.broken_by}
    content = io.BytesIO()
    np.savez_compressed(content, allow_pickle=False, **arrays)
    write_atomically(path, content.getvalue())


def load_samples(path: Path) -> Samples:
    """Return the samples in the file `path`; they are untrusted, so everything is checked.

    Raises:
        UsageError: the file is missing, unreadable, or not what `save_samples` writes; the line says which.
    """

    def wanted(there: Collection[str]) -> Collection[str]:
        evaluations = [name.removeprefix(_BROKEN_BY) for name in there if name.startswith(_BROKEN_BY)]
        needed = ["hashes", "labels", *(kind + name for name in evaluations for kind in (_PARTS, _BROKEN_BY))]
        missing = next((name for name in needed if name not in there), None)
        if missing is not None:
            raise UsageError(
                f"{path} holds no '{missing:.60}': it is no file of outcomes that fatbench wrote; {_REMEDY}"
            )
        return needed

    arrays = read_arrays(path, wanted, _LARGEST, _REMEDY)
    hashes, labels = arrays.pop("hashes"), arrays.pop("labels")
    if hashes.dtype.str != "<u8" or labels.dtype.str != "<i8" or hashes.ndim != 1 or labels.shape != hashes.shape:
        raise UsageError(f"{path} is not fatbench's: hashes and labels are one line of 64-bit integers each; {_REMEDY}")
    names = [name.removeprefix(_BROKEN_BY) for name in arrays if name.startswith(_BROKEN_BY)]
    return Samples(hashes, labels, {name: _outcome(name, arrays, len(hashes), path) for name in names})


def _outcome(name: str, arrays: Mapping[str, NDArray[Any]], images: int, path: Path) -> Outcome:
    parts, broken_by = arrays[_PARTS + name], arrays[_BROKEN_BY + name]
    named = parts.dtype.kind == "U" and parts.ndim == 1 and len(parts) <= _MOST_PARTS
    if not (named and broken_by.dtype.str == "|i1" and broken_by.shape == (images,)):
        raise UsageError(f"{path}: what it says about {name:.60} is damaged; {_REMEDY}")
    if images and not -1 <= int(broken_by.min()) <= int(broken_by.max()) <= len(parts):
        raise UsageError(f"{path}: what it says about {name:.60} is damaged; {_REMEDY}")
    return Outcome(tuple(map(str, parts)), broken_by)
