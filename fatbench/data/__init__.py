"""The catalogue of datasets, and the way to bring one's own. Listing needs no torch; `load` imports what it reads."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from fatbench.config.spec import short_name
from fatbench.errors import ResourceError, UsageError
from fatbench.io.safe_read import is_directory, path_exists

if TYPE_CHECKING:
    from fatbench.data.arrays import Arrays
    from fatbench.data.dataset import Dataset

_DESCRIPTIONS = {
    "digits": "1,797 grey 8x8 images, 10 digits; embedded, works offline",
    "mnist": "70,000 grey 28x28 images, 10 digits; 12 MB with --download",
    "cifar10": "60,000 colour 32x32 images, 10 classes; 170 MB with --download",
    "cifar100": "60,000 colour 32x32 images, 100 classes; 170 MB with --download",
    "svhn": "99,289 colour 32x32 images, 10 digits; 250 MB with --download",
    "tiny-imagenet": "110,000 colour 64x64 images, 200 classes; put the folder tiny-imagenet-200 in --data-dir",
}
_OWN = "the path of an .npz file or image folder"


def names() -> list[str]:
    """Return the registered datasets' names, small to large."""
    return list(_DESCRIPTIONS)


def describe(name: str) -> str:
    """Return one line about the registered dataset `name`.

    Raises:
        UsageError: there is no such dataset; the line says which exist.
    """
    if name not in _DESCRIPTIONS:
        raise UsageError(f"no dataset '{name}': there are {', '.join(names())}, or {_OWN}")
    return _DESCRIPTIONS[name]


def load(
    dataset: str,
    *,
    seed: int,
    data_dir: Path | None,
    download: bool = False,
    limit_train: int | None = None,
    test_only: bool = False,
) -> Dataset:
    """Return the dataset on the CPU, split into training, validation and test images.

    Args:
        dataset: a registered name, or the path of an .npz file or image folder.
        seed: chooses the validation images, and which images `limit_train` keeps; the test images never change.
        data_dir: where registered datasets lie; ~/.cache/fatbench if None.
        download: fetch a registered dataset that is not there.
        limit_train: keep this many training images, stratified.
        test_only: whether a file or folder of one's own without training images will do.

    Raises:
        UsageError: no such dataset, or its content cannot be used; one line names the file and what is wrong.
        ResourceError: a registered dataset is not there, damaged, behind a closed door, or cannot be fetched.
    """
    from fatbench.data.split import split

    try:
        if dataset in _DESCRIPTIONS:
            arrays = _read_registered(dataset, data_dir, download)
        else:
            arrays = _read_path(dataset, test_only=test_only)
            _check_distinct(arrays, dataset)
        return split(arrays, short_name(dataset), seed=seed, limit_train=limit_train)
    except MemoryError:
        raise ResourceError(f"{dataset} does not fit into this machine's memory: make a smaller copy of it") from None
    except OSError as error:
        kind = ResourceError if dataset in _DESCRIPTIONS else UsageError  # a path that she gave
        raise kind(f"cannot read {error.filename or dataset}: {error.strerror or error}") from None


def _read_registered(name: str, data_dir: Path | None, download: bool) -> Arrays:
    if name == "digits":
        from fatbench.data.digits import read_digits

        return read_digits()
    root = data_dir or _default_folder()
    if name == "tiny-imagenet":
        from fatbench.data.tiny_imagenet import read_tiny_imagenet

        return read_tiny_imagenet(root)
    from fatbench.data.torchvision_sets import read_torchvision

    return read_torchvision(name, root, download)


def _default_folder() -> Path:
    try:
        return Path.home() / ".cache" / "fatbench"
    except RuntimeError:  # no HOME, and a user that the system does not know, as in containers
        raise ResourceError(
            "there is no home directory with datasets: name one with --data-dir or FATBENCH_DATA"
        ) from None


def _check_distinct(arrays: Arrays, dataset: str) -> None:
    """Refuse images of which each equals the first, or a blank background that lost its picture."""
    side, x = ("training", arrays.x_train) if len(arrays.x_train) else ("test", arrays.x_test)
    if len(x) > 1 and all((one == x[0]).all() for one in x[1:]):  # ends at the first that differs
        raise UsageError(f"{dataset}: all {len(x)} {side} images are equal, so there is nothing to tell them apart by")


def _read_path(dataset: str, *, test_only: bool) -> Arrays:
    try:
        path = Path(dataset).expanduser()
    except RuntimeError:
        raise UsageError(f"{dataset}: there is no such home directory; give the whole path") from None
    if is_directory(path):
        from fatbench.data.folder import read_folder

        return read_folder(path, test_only=test_only)
    if dataset.endswith(".npz"):
        from fatbench.data.arrays import read_npz

        return read_npz(path, test_only=test_only)
    if "/" in dataset or os.sep in dataset:
        found = "is neither an .npz file nor a folder" if path_exists(path) else "does not exist"
        raise UsageError(f"{dataset} {found}: a dataset is one of {', '.join(names())}, or {_OWN}")
    raise UsageError(f"no dataset '{dataset}': there are {', '.join(names())}, or {_OWN}")
