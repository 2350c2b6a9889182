"""CIFAR-10 from mosaics of 1,000 images, 40 columns of 32x32 tiles: train_00.webp ..., test_00.webp ..., labels.npz."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import count, takewhile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fatbench.errors import UsageError

NAME = "cifar10.npz"


def unpack(sources: Sequence[Path], folder: Path) -> dict[str, int]:
    """Write folder/cifar10.npz from the parts in the folders `sources`, and return the images of each split.

    The parts of a split that are there must be its first ones: with some of them missing the set is smaller.

    Raises:
        UsageError: the folders lack what is needed.
    """
    files = {path.name: path for source in sources if source.is_dir() for path in source.iterdir()}
    missing = [name for name in ("labels.npz", "train_00.webp", "test_00.webp") if name not in files]
    if missing:
        raise UsageError(f"no {missing[0]} in {', '.join(map(str, sources))}")
    labels, arrays = np.load(files["labels.npz"]), {}
    with ThreadPoolExecutor() as pool:  # decoding leaves the interpreter's lock alone
        for split in ("train", "test"):
            names = takewhile(files.__contains__, (f"{split}_{part:02d}.webp" for part in count()))
            images = np.concatenate(list(pool.map(tiles, [files[name] for name in names])))
            arrays[f"x_{split}"] = images
            arrays[f"y_{split}"] = labels[split][: len(images)].astype(np.int64)
    np.savez(folder / NAME, **arrays)
    return {split: len(arrays[f"y_{split}"]) for split in ("train", "test")}


def tiles(path: Path, size: int = 32, columns: int = 40) -> NDArray[np.uint8]:
    """Return the images of a mosaic, row by row: (N, 32, 32, 3)."""
    try:
        mosaic = np.asarray(Image.open(path).convert("RGB"))
    except (OSError, ValueError) as error:
        raise UsageError(f"{path} cannot be read: {error}") from None
    if mosaic.shape[0] % size or mosaic.shape[1] != size * columns:
        raise UsageError(f"{path} is no mosaic of {columns} columns of {size}x{size} images")
    return mosaic.reshape(-1, size, columns, size, 3).swapaxes(1, 2).reshape(-1, size, size, 3)
