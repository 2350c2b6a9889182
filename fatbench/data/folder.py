from itertools import chain
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fatbench.data.arrays import Arrays
from fatbench.data.images import SUFFIXES, Mode, decode, list_images, survey
from fatbench.errors import UsageError

_LAYOUT = "an image folder holds train/CLASS/ and test/CLASS/"
_Files = dict[str, list[Path]]  # class -> its images


def read_folder(folder: Path) -> Arrays:
    """Return the images of folder/train/CLASS/ and folder/test/CLASS/, all of one size, classes numbered by name.

    They are grey if every file is, else colour.

    Raises:
        UsageError: a folder or image is missing, unreadable or does not fit; the line names it.
    """
    train, test = _list(folder, "train"), _list(folder, "test")
    for name in sorted(train.keys() ^ test.keys()):
        has, lacks = ("train", "test") if name in train else ("test", "train")
        raise UsageError(f"{folder}: class '{name}' is in {has} but not in {lacks}")
    if len(train) < 2:
        raise UsageError(f"{folder / 'train'} has {len(train)} class, expected at least 2")
    few = next((name for name, paths in train.items() if len(paths) < 2), None)
    if few is not None:
        raise UsageError(f"{folder / 'train' / few} has 1 image, expected at least 2")
    size, mode = survey([*chain(*train.values()), *chain(*test.values())])
    return Arrays(*_read(train, size, mode, folder), *_read(test, size, mode, folder))


def _list(folder: Path, side: str) -> _Files:
    if not (folder / side).is_dir():
        raise UsageError(f"{folder} has no folder '{side}': {_LAYOUT}")
    classes = [path for path in (folder / side).iterdir() if path.is_dir() and path.name[0] != "."]
    files = {path.name: list_images(path) for path in sorted(classes, key=lambda path: path.name)}
    if not files:
        raise UsageError(f"{folder / side} has no folders: {_LAYOUT}")
    empty = next((name for name, paths in files.items() if not paths), None)
    if empty is not None:
        raise UsageError(f"{folder / side / empty} has no images ({', '.join(SUFFIXES)})")
    return files


def _read(
    files: _Files, size: tuple[int, int], mode: Mode, folder: Path
) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    counts = [len(paths) for paths in files.values()]
    x = decode([*chain(*files.values())], size, mode, where=str(folder))
    return x, np.repeat(np.arange(len(counts), dtype=np.int64), counts)
