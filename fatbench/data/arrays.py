"""The form that every source of images is brought to, and the one place where untrusted arrays are checked."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fatbench.data.ranking import fingerprint
from fatbench.errors import UsageError
from fatbench.io.npz import read_arrays

LARGEST = 64 * 2**30  # bytes: no dataset of small images is larger, and a zip bomb is
KEYS = ("x_train", "y_train", "x_test", "y_test")
_NAMES = "class_names"


@dataclass(frozen=True, eq=False)
class Arrays:
    """Images uint8 (N, C, H, W) and labels int64 (N,) of 0..K-1, before validation images are held out."""

    x_train: NDArray[np.uint8]
    y_train: NDArray[np.int64]
    x_test: NDArray[np.uint8]
    y_test: NDArray[np.int64]
    validation: int | None = None  # training images to hold out, where the set has a rule of its own
    classes: tuple[str, ...] = ()  # their names, by label, where they have any
    notes: tuple[str, ...] = ()  # what a reader of a result should know about the data

    @property
    def num_classes(self) -> int:
        """K: of the names or else of the labels."""
        labels = self.y_train if len(self.y_train) else self.y_test
        return len(self.classes) or int(labels.max()) + 1

    @property
    def sha256(self) -> str:
        """Identifies the labelled images and their train/test split, whatever the order of the file."""
        return fingerprint((self.x_train, self.y_train), (self.x_test, self.y_test))


def check(raw: Mapping[str, NDArray[Any]], where: str) -> Arrays:
    """Return the four arrays of `raw` in the one layout; `where` names their file in messages.

    Images may be (N, H, W), (N, H, W, C) or (N, C, H, W) with 1 or 3 channels; labels any integers, (N,) or (N, 1).

    Raises:
        UsageError: anything wrong with them, naming the array.
    """
    x_train, y_train = _side(raw, "train", where)
    x_test, y_test = _side(raw, "test", where)
    if x_train.shape[1:] != x_test.shape[1:]:
        shapes = (_dimensions(x_train.shape[1:]), _dimensions(x_test.shape[1:]))
        raise UsageError(f"{where}: x_train holds images of {shapes[0]}, but x_test of {shapes[1]}")
    _check_classes(y_train, y_test, where)
    return Arrays(x_train, y_train, x_test, y_test)


def _side(raw: Mapping[str, NDArray[Any]], side: str, where: str) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    x, y = _images(raw[f"x_{side}"], f"{where}: x_{side}"), _labels(raw[f"y_{side}"], f"{where}: y_{side}")
    if len(x) != len(y):
        raise UsageError(f"{where}: x_{side} has {len(x)} images, but y_{side} has {len(y)} labels")
    return x, y


def check_size(count: int, shape: tuple[int, ...], where: str) -> None:
    """Return if `count` images of `shape` are of a plausible size.

    Raises:
        UsageError: they are not.
    """
    size = count * int(np.prod(shape, dtype=object))
    if size > LARGEST:
        raise UsageError(
            f"{where} holds {size / 2**30:.0f} GiB of pixels; at most {LARGEST / 2**30:.0f} GiB can be read"
        )


def _images(x: NDArray[Any], what: str) -> NDArray[np.uint8]:
    if x.dtype != np.uint8:
        raise UsageError(f"{what} is {x.dtype}, expected uint8 0..255")
    if x.ndim not in (3, 4):
        raise UsageError(f"{what} has shape {x.shape}, expected (N, H, W), (N, H, W, C) or (N, C, H, W)")
    if not x.size:
        raise UsageError(f"{what} is empty: its shape is {x.shape}")
    if x.ndim == 3:
        return np.ascontiguousarray(x[:, None])
    first, last = x.shape[1] in (1, 3), x.shape[3] in (1, 3)
    if first and last:
        raise UsageError(f"{what} has shape {x.shape}: its channels may be axis 1 or 3; add a pixel of padding")
    if not first and not last:
        raise UsageError(f"{what} has shape {x.shape}: expected 1 or 3 channels as axis 1 or 3")
    return np.ascontiguousarray(x if first else x.transpose(0, 3, 1, 2))


def _labels(y: NDArray[Any], what: str) -> NDArray[np.int64]:
    if y.dtype.kind not in "iu":
        raise UsageError(f"{what} is {y.dtype}, expected integers 0..K-1")
    if y.ndim == 2 and y.shape[1] == 1:
        y = y[:, 0]
    if y.ndim != 1:
        raise UsageError(f"{what} has shape {y.shape}, expected (N,); one-hot rows become labels by argmax(1)")
    if not y.size:
        raise UsageError(f"{what} is empty")
    if int(y.min()) < 0:
        raise UsageError(f"{what} has the label {int(y.min())}, expected 0..K-1")
    if int(y.max()) > np.iinfo(np.int64).max:
        raise UsageError(f"{what} has the label {int(y.max())}, expected 0..K-1")
    return np.ascontiguousarray(y, dtype=np.int64)


def _check_classes(y_train: NDArray[np.int64], y_test: NDArray[np.int64], where: str) -> None:
    classes, counts = np.unique(y_train, return_counts=True)
    last = len(classes) - 1
    if last < 1:
        raise UsageError(f"{where}: y_train has 1 class, expected at least 2")
    if classes[-1] != last:
        missing = next(label for label, found in enumerate(classes) if label != found)
        raise UsageError(
            f"{where}: y_train has {last + 1} classes numbered up to {classes[-1]}, and no {missing}: "
            f"number them 0..{last}"
        )
    if counts.min() < 2:
        raise UsageError(f"{where}: class {counts.argmin()} has 1 training image, expected at least 2")
    if y_test.max() > last:
        raise UsageError(f"{where}: y_test has the label {y_test.max()}, but y_train has only 0..{last}")


def _dimensions(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape))


def read_npz(path: Path, *, test_only: bool = False) -> Arrays:
    """Return x_train, y_train, x_test and y_test of the file, checked and in the one layout.

    With `test_only`, a file without training images will do. Text in "class_names" (K,) names the classes.

    Raises:
        UsageError: anything wrong with the file, naming the array at fault.
    """

    def wanted(there: Collection[str]) -> Collection[str]:
        needed = KEYS[2:] if test_only and not set(KEYS[:2]) & set(there) else KEYS
        missing = next((key for key in needed if key not in there), None)
        if missing is not None:
            has = ", ".join(sorted(there)[:8]) or "nothing"
            raise UsageError(f"{path} has no {missing}: it needs {', '.join(needed)}, and has {has:.200}")
        return [*needed, *{_NAMES} & set(there)]

    raw = read_arrays(path, wanted, LARGEST)
    if "x_train" in raw:
        found = check(raw, str(path))
    else:
        x, y = _side(raw, "test", str(path))
        found = Arrays(x[:0], y[:0], x, y)
    return replace(found, classes=_names(raw[_NAMES], found, f"{path}: {_NAMES}")) if _NAMES in raw else found


def _names(names: NDArray[Any], arrays: Arrays, what: str) -> tuple[str, ...]:
    if names.dtype.kind != "U" or names.ndim != 1:
        raise UsageError(f"{what} is {names.dtype} of shape {names.shape}, expected text, a name for each class")
    if len(arrays.y_train) and len(names) != arrays.num_classes:
        raise UsageError(f"{what} has {len(names)} names, but there are {arrays.num_classes} classes")
    if len(names) < arrays.num_classes:
        raise UsageError(f"{what} has {len(names)} names, but y_test has labels up to {arrays.num_classes - 1}")
    return tuple(map(str, names.tolist()))
