"""CIFAR, SVHN and MNIST, read by torchvision from their official files, which it verifies and can fetch."""

import errno
import shutil
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fatbench.data.arrays import Arrays, check
from fatbench.errors import ResourceError


@dataclass(frozen=True)
class _Source:
    """Where torchvision has a dataset."""

    class_name: str
    labels: str  # attribute
    sides: tuple[dict[str, Any], dict[str, Any]]  # arguments that select training and test images
    files: tuple[str, ...]  # what must lie in the data folder


_BY_FLAG: tuple[dict[str, Any], dict[str, Any]] = ({"train": True}, {"train": False})
_BY_SPLIT: tuple[dict[str, Any], dict[str, Any]] = ({"split": "train"}, {"split": "test"})
_SOURCES = {
    "mnist": _Source("MNIST", "targets", _BY_FLAG, ("MNIST/raw",)),
    "cifar10": _Source("CIFAR10", "targets", _BY_FLAG, ("cifar-10-batches-py",)),
    "cifar100": _Source("CIFAR100", "targets", _BY_FLAG, ("cifar-100-python",)),
    "svhn": _Source("SVHN", "labels", _BY_SPLIT, ("train_32x32.mat", "test_32x32.mat")),
}
_FETCHING = ".fetching-"
_LONGEST = 24 * 3600  # seconds
_ELSEWHERE = "or name its folder with --data-dir / FATBENCH_DATA"


def read_torchvision(name: str, root: Path, download: bool) -> Arrays:
    """Return the registered dataset `name` from the folder `root`, fetched first if it is missing and `download`.

    Raises:
        ResourceError: it is not there, damaged, or cannot be fetched.
    """
    source = _SOURCES[name]
    missing = next((file for file in source.files if not (root / file).exists()), None)
    if missing is not None and not download:
        raise ResourceError(f"no {name} in {root}: {missing} is missing; add --download, {_ELSEWHERE}")
    try:
        if not download:
            return _read(source, root, download=False, where=name)
        there = _read_if_sound(source, root, where=name) if missing is None else None
        return there or _fetch(source, root, where=name)
    except MemoryError:
        raise
    # torchvision and what it calls fail in many ways: URLError, RuntimeError, EOFError, AssertionError, ...
    except Exception as error:
        raise ResourceError(_explain(name, source, root, download, error)) from error


def _read(source: _Source, root: Path, download: bool, where: str) -> Arrays:
    import torchvision.datasets

    raw: dict[str, NDArray[Any]] = {}
    for side, selection in zip(("train", "test"), source.sides, strict=True):
        images = getattr(torchvision.datasets, source.class_name)(root=root, download=download, **selection)
        raw[f"x_{side}"] = np.asarray(images.data)
        raw[f"y_{side}"] = np.asarray(getattr(images, source.labels))
    return check(raw, where)


def _read_if_sound(source: _Source, root: Path, where: str) -> Arrays | None:
    try:
        return _read(source, root, download=False, where=where)
    except MemoryError:
        raise
    except Exception:  # in as many ways as above
        return None


def _fetch(source: _Source, root: Path, where: str) -> Arrays:
    """Fetch into a folder of its own and read; only what torchvision's checksums and our reading found whole is moved.

    torchvision by itself takes an MNIST for complete whose unpacking was interrupted.
    """
    root.mkdir(parents=True, exist_ok=True)
    _sweep(root)
    with tempfile.TemporaryDirectory(dir=root, prefix=_FETCHING) as folder:
        arrays = _read(source, Path(folder), download=True, where=where)
        mine = [
            _replace(root / file, Path(folder) / file, Path(folder) / f"old-{Path(file).name}") for file in source.files
        ]
    return arrays if all(mine) else _read(source, root, download=False, where=where)


def _replace(place: Path, new: Path, old: Path) -> bool:
    """Put `new` in its place, and what was there out of the way: a folder cannot be renamed onto a full one.

    False if another process has put its own there meanwhile, which stays.
    """
    place.parent.mkdir(parents=True, exist_ok=True)
    with suppress(FileNotFoundError):
        place.rename(old)
    try:
        new.rename(place)
    except OSError as error:
        if error.errno not in (errno.EEXIST, errno.ENOTEMPTY):
            raise
        return False
    return True


def _sweep(root: Path) -> None:
    """Remove what processes that were killed while they fetched have left; nobody fetches for a day."""
    for folder in root.glob(f"{_FETCHING}*"):
        with suppress(OSError):
            if time.time() - folder.stat().st_mtime > _LONGEST:
                shutil.rmtree(folder)


def _explain(name: str, source: _Source, root: Path, download: bool, error: Exception) -> str:
    reason = f"{type(error).__name__}: {' '.join(str(error).split()):.160}"
    files = " and ".join(source.files)
    if download:
        return f"cannot fetch {name} into {root} ({reason}); check network and folder, delete {files} if it is damaged"
    return f"{name} in {root} is incomplete or damaged ({reason}); delete {files} and add --download, {_ELSEWHERE}"
