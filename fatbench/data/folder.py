"""Image folders: train/CLASS/ and test/CLASS/ to arrays, and what became of files that are not used as they are."""

from collections import Counter
from itertools import chain
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fatbench.data.arrays import Arrays
from fatbench.data.images import SUFFIXES, Listing, Mode, decode, list_images, survey
from fatbench.errors import UsageError

_LAYOUT = "an image folder holds train/CLASS/ and test/CLASS/"
_OTHER_NAMES = {"train": ("training",), "test": ("val", "valid", "validation", "testing")}
_Files = dict[str, Listing]  # class -> what its folder holds


def read_folder(folder: Path, *, test_only: bool = False) -> Arrays:
    """Return the images of folder/train/CLASS/ and folder/test/CLASS/, all of one size, classes numbered by name.

    They are grey if every file is, else colour. With `test_only`, folder/train may be missing.

    Raises:
        UsageError: a folder or image is missing, unreadable or does not fit; the line names it.
    """
    test = _list(folder, "test")
    train = {} if test_only and not (folder / "train").exists() else _list(folder, "train")
    classes = list(train or test)
    unknown = next((name for name in test if name not in classes), None)
    if unknown is not None:
        raise UsageError(f"{folder}: class '{unknown}' is in test but not in train")
    if len(classes) < 2:
        raise UsageError(f"{folder / ('train' if train else 'test')} has {len(classes)} class, expected at least 2")
    few = next((name for name, found in train.items() if len(found.images) < 2), None)
    if few is not None:
        raise UsageError(f"{folder / 'train' / few} has 1 image, expected at least 2")
    size, mode = survey([*_all(train), *_all(test)])
    x_train, y_train, done = _read(train, classes, size, mode, folder)
    x_test, y_test, done_too = _read(test, classes, size, mode, folder)
    total = len(y_train) + len(y_test)
    notes = [f"{count} of {total} images {what}" for what, count in (done + done_too).items()]
    left_out = [*_left_out("train", train), *_left_out("test", test)]
    return Arrays(x_train, y_train, x_test, y_test, classes=tuple(classes), notes=(*left_out, *notes))


def _list(folder: Path, side: str) -> _Files:
    if not (folder / side).is_dir():
        there = next((name for name in _OTHER_NAMES[side] if (folder / name).is_dir()), None)
        remedy = f"; is '{there}' what is meant? Rename it" if there else ""
        raise UsageError(f"{folder} has no folder '{side}': {_LAYOUT}{remedy}")
    classes = [path for path in (folder / side).iterdir() if path.is_dir() and path.name[0] != "."]
    files = {path.name: list_images(path) for path in sorted(classes, key=lambda path: path.name)}
    if not files:
        raise UsageError(f"{folder / side} has no folders: {_LAYOUT}")
    empty = next((name for name, found in files.items() if not found.images), None)
    if empty is not None:
        others = sum(files[empty].left_out.values())
        found = f"; it has {_counted(others, 'file')}: {_suffixes(files[empty].left_out)}" if others else ""
        raise UsageError(f"{folder / side / empty} has no images ({', '.join(SUFFIXES)}){found}")
    return files


def _read(
    files: _Files, classes: list[str], size: tuple[int, int], mode: Mode, folder: Path
) -> tuple[NDArray[np.uint8], NDArray[np.int64], Counter[str]]:
    x, done = decode(_all(files), size, mode, where=str(folder))
    labels, counts = [classes.index(name) for name in files], [len(found.images) for found in files.values()]
    return x, np.repeat(np.array(labels, dtype=np.int64), counts), done


def _all(files: _Files) -> list[Path]:
    return [*chain.from_iterable(found.images for found in files.values())]


def _left_out(side: str, files: _Files) -> list[str]:
    """How many files below the classes are no images, and which, in one line."""
    named = [name for name, found in files.items() if found.left_out]
    total = sum((found.left_out for found in files.values()), Counter[str]())
    if not named:
        return []
    where = f"{side}/{named[0]}" if len(named) == 1 else f"{len(named)} classes of {side}"
    count = sum(total.values())
    return [f"{_counted(count, 'file')} in {where} {'was' if count == 1 else 'were'} left out: {_suffixes(total)}"]


def _suffixes(counts: Counter[str]) -> str:
    return ", ".join(sorted(counts, key=lambda suffix: (-counts[suffix], suffix))[:8])


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}{'s' * (count != 1)}"
