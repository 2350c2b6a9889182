"""Image files to one array; each file that does not fit is named."""

from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fatbench.data.arrays import check_size
from fatbench.errors import FatbenchError, UsageError
from fatbench.io.safe_read import open_file

Mode = Literal["L", "RGB"]
SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp")
_FORMATS = ("PNG", "JPEG", "WEBP", "BMP")  # by content, too: no decoder runs that the file's name does not announce
_MODES = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr")  # 8 bits a channel; others lose bits unseen
_THREADS = 8  # Pillow decodes outside Python's lock


def list_images(folder: Path) -> list[Path]:
    """Return the image files directly in `folder`, by name."""
    return sorted(path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES and path.name[0] != ".")


def survey(paths: Sequence[Path]) -> tuple[tuple[int, int], Mode]:
    """Return the commonest (width, height) of the images, and "L" if all are grey, else "RGB". Decodes no pixels.

    Raises:
        UsageError: an image cannot be read.
    """
    found = [_header(path) for path in paths]
    size = Counter(size for size, _ in found).most_common(1)[0][0]
    return size, "L" if all(mode == "L" for _, mode in found) else "RGB"


def decode(paths: Sequence[Path], size: tuple[int, int], mode: Mode, where: str) -> NDArray[np.uint8]:
    """Return the images as (N, C, H, W), C being 1 for "L" and 3 for "RGB".

    Raises:
        UsageError: an image cannot be read, or is not of `size` (width, height).
    """
    width, height = size
    shape = (1 if mode == "L" else 3, height, width)
    check_size(len(paths), shape, where)
    x = np.empty((len(paths), *shape), dtype=np.uint8)

    def fill(row: int) -> None:
        with _opened(paths[row]) as image:
            if image.size != size:
                found = f"{image.width}x{image.height}"
                raise UsageError(f"{paths[row]} is {found} pixels, but the others are {width}x{height}")
            x[row] = np.asarray(image.convert(mode)).reshape(height, width, -1).transpose(2, 0, 1)

    with ThreadPoolExecutor(_THREADS) as pool:
        list(pool.map(fill, range(len(paths))))  # raises the first failure, by row
    return x


def _header(path: Path) -> tuple[tuple[int, int], str]:
    with _opened(path) as image:
        return image.size, image.mode


@contextmanager
def _opened(path: Path) -> Iterator[Image.Image]:
    try:
        with open_file(path) as file, Image.open(file, formats=_FORMATS) as image:
            if image.mode not in _MODES:
                raise UsageError(f"{path} has pixels of mode {image.mode}; save it with 8 bits per channel")
            yield image
    except (FatbenchError, MemoryError):
        raise
    # Decoders fail in many ways on broken files: OSError, SyntaxError, ValueError, DecompressionBombError, ...
    except Exception as error:
        raise UsageError(f"cannot read the image {path} ({type(error).__name__}); replace or remove it") from None
