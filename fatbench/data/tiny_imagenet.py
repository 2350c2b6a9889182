from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fatbench.data.arrays import Arrays, check
from fatbench.data.images import decode, list_images
from fatbench.errors import ResourceError, UsageError
from fatbench.io.safe_read import read_file

_FOLDER = "tiny-imagenet-200"
_SIZE = (64, 64)
_SOURCE = "http://cs231n.stanford.edu/tiny-imagenet-200.zip"


def read_tiny_imagenet(root: Path) -> Arrays:
    """Return Tiny-ImageNet from root/tiny-imagenet-200, colour 64x64; its labelled val images are the test images.

    Classes are numbered by WordNet id in ascending order. Grey files are spread over three channels.

    Raises:
        ResourceError: the folder is not there, or is incomplete or damaged.
    """
    folder = root / _FOLDER
    if not folder.is_dir():
        raise ResourceError(
            f"no tiny-imagenet in {root}: put the folder {_FOLDER} there, unpacked from {_SOURCE}, "
            f"or name its parent folder with --data-dir / FATBENCH_DATA; --download does not fetch it"
        )
    try:
        return _read(folder)
    except (OSError, UnicodeError, UsageError, KeyError, ValueError) as error:
        reason = str(error) if isinstance(error, (OSError, UsageError)) else f"{type(error).__name__}: {error}"
        raise ResourceError(f"tiny-imagenet in {root} is incomplete or damaged ({reason}); unpack it again") from error


def _read(folder: Path) -> Arrays:
    classes = sorted(set(_text(folder / "wnids.txt").split()))
    train_files = [list_images(folder / "train" / wnid / "images").images for wnid in classes]
    annotations = _text(folder / "val" / "val_annotations.txt").splitlines()
    pairs = sorted(tuple(line.split("\t")[:2]) for line in annotations if line.strip())
    label_of = {wnid: label for label, wnid in enumerate(classes)}
    test_files = [folder / "val" / "images" / name for name, _ in pairs]
    raw: dict[str, NDArray[Any]] = {
        "x_train": decode([path for files in train_files for path in files], _SIZE, "RGB", where=str(folder))[0],
        "y_train": np.repeat(np.arange(len(classes)), [len(files) for files in train_files]),
        "x_test": decode(test_files, _SIZE, "RGB", where=str(folder))[0],
        "y_test": np.array([label_of[wnid] for _, wnid in pairs], dtype=np.int64),
    }
    return check(raw, where=str(folder))


def _text(path: Path) -> str:
    return read_file(path, 2**24).decode("utf-8")
