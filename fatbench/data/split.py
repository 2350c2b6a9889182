"""Holding out validation images, and keeping fewer training images on request."""

import numpy as np
import torch
from numpy.typing import NDArray

from fatbench.data.arrays import Arrays
from fatbench.data.dataset import Dataset
from fatbench.data.ranking import stratified_order
from fatbench.errors import UsageError

_VALIDATION = 1_000  # images; enough to see catastrophic overfitting, few enough to probe often
_SMALL = 20_000  # training images below which that would be too many: 5% then
_SMALL_PART = 20
_NAMED = 8  # classes in a message


def split(arrays: Arrays, name: str, *, seed: int, limit_train: int | None = None) -> Dataset:
    """Return the dataset with stratified validation images held out, chosen by (seed, data) alone.

    Raises:
        UsageError: `limit_train` asks for more training images than there are, or for none.
    """
    labels = arrays.y_train
    priority = np.random.default_rng(seed).permutation(len(labels)).astype(np.uint64)
    order = stratified_order(labels, priority)
    held_out = _validation_size(arrays)
    validation, train = order[:held_out], order[held_out:]
    if limit_train is not None:
        if not 1 <= limit_train <= len(train):
            raise UsageError(f"--limit-train {limit_train}: {name} has {len(train)} training images")
        train = train[stratified_order(labels[train], priority[train])[:limit_train]]
    x_train, y_train = _rows(arrays, train)
    x_val, y_val = _rows(arrays, validation)
    return Dataset(
        name=name,
        x_train=x_train,
        y_train=y_train,
        x_val=x_val,
        y_val=y_val,
        # A copy: grey images pass for any memory format, but other strides would make maps that `view` refuses.
        x_test=torch.from_numpy(arrays.x_test).clone(memory_format=torch.contiguous_format),
        y_test=torch.from_numpy(arrays.y_test),
        num_classes=arrays.num_classes,
        subset=limit_train is not None,
        sha256=arrays.sha256,
        classes=arrays.classes,
        notes=(*arrays.notes, *_untested(arrays)),
    )


def _untested(arrays: Arrays) -> list[str]:
    """Which classes have no test image, in one line."""
    there = set(np.unique(arrays.y_test).tolist())
    missing = [label for label in range(arrays.num_classes) if label not in there]
    names = [arrays.classes[label] if arrays.classes else str(label) for label in missing]
    listed = ", ".join(names[:_NAMED]) + (f" and {len(names) - _NAMED} more" if len(names) > _NAMED else "")
    return [f"no test images of {len(missing)} of {arrays.num_classes} classes: {listed}"] if missing else []


def _validation_size(arrays: Arrays) -> int:
    total = len(arrays.y_train)
    usual = _VALIDATION if total >= _SMALL else max(1, total // _SMALL_PART)
    return (arrays.validation or usual) if total else 0


def _rows(arrays: Arrays, rows: NDArray[np.int64]) -> tuple[torch.Tensor, torch.Tensor]:
    ascending = np.sort(rows)
    return torch.from_numpy(arrays.x_train[ascending]), torch.from_numpy(arrays.y_train[ascending])
