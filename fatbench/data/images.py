"""Image files to one array; each file that does not fit is named, and what was done to those that do is counted."""

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from fatbench.data.arrays import check_size
from fatbench.errors import FatbenchError, UsageError
from fatbench.io.safe_read import open_file

Mode = Literal["L", "RGB"]
_COMMON = ("PNG", "JPEG", "WEBP", "BMP")
_FORMATS = {  # by content, too: no decoder runs that the file's name does not announce
    **dict.fromkeys((".png", ".jpg", ".jpeg", ".webp", ".bmp"), _COMMON),
    **dict.fromkeys((".tif", ".tiff"), ("TIFF",)),
    **dict.fromkeys((".ppm", ".pgm", ".pbm", ".pnm"), ("PPM",)),
    ".gif": ("GIF",),
}
SUFFIXES = tuple(_FORMATS)
_GREY = ("1", "L", "LA")
_MODES = (*_GREY, "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr")  # 8 bits a channel; others lose bits unseen
_PHONE = "MPO"  # a JPEG file with a second picture behind the first, as phones write them
_TURNED = ("JPEG", _PHONE, "WEBP")  # formats whose EXIF data come before the pixels; Pillow itself turns TIFF
_ORIENTATION = 0x0112  # among EXIF tags; 1 is upright, above 4 width and height change places
_CLUTTER = ("thumbs.db", "desktop.ini", "__macosx")  # of systems, as are names that begin with a dot
_THREADS = 8  # Pillow decodes outside Python's lock

TRANSPARENT = "have transparent pixels and were put on white"
TURNED = "were turned as their EXIF data say"


class Listing(NamedTuple):
    """The image files below a folder, by name, and how many others there are, by suffix."""

    images: list[Path]
    left_out: Counter[str]


def list_images(folder: Path) -> Listing:
    """Return what lies in `folder` and its subfolders; hidden files and those that systems leave count as nothing."""
    images, left_out, seen = [], Counter[str](), set[str]()
    for where, folders, files in os.walk(folder, onerror=_fail, followlinks=True):
        real = os.path.realpath(where)
        folders[:] = [] if real in seen else sorted(name for name in folders if not _is_clutter(name))
        for name in () if real in seen else filter(lambda name: not _is_clutter(name), files):
            path = Path(where, name)
            if path.suffix.lower() in _FORMATS:
                images.append(path)
            else:
                left_out[path.suffix.lower() or "no suffix"] += 1
        seen.add(real)
    return Listing(sorted(images), left_out)


def survey(paths: Sequence[Path]) -> tuple[tuple[int, int], Mode]:
    """Return the commonest (width, height) of the images, and "L" if all are grey, else "RGB". Decodes no pixels.

    Raises:
        UsageError: an image cannot be read.
    """
    found = [_header(path) for path in paths]
    size = Counter(size for size, _ in found).most_common(1)[0][0]
    return size, "L" if all(mode in _GREY for _, mode in found) else "RGB"


def decode(
    paths: Sequence[Path], size: tuple[int, int], mode: Mode, where: str
) -> tuple[NDArray[np.uint8], Counter[str]]:
    """Return the images as (N, C, H, W), C being 1 for "L" and 3 for "RGB", and with how many of them what was done.

    Raises:
        UsageError: an image cannot be read, has several frames, or is not of `size` (width, height).
    """
    width, height = size
    shape = (1 if mode == "L" else 3, height, width)
    check_size(len(paths), shape, where)
    x = np.empty((len(paths), *shape), dtype=np.uint8)

    def fill(row: int) -> list[str]:
        with _opened(paths[row]) as image:
            if (found := _upright_size(image)) != size:
                raise UsageError(
                    f"{paths[row]} is {found[0]}x{found[1]} pixels, but most others are {width}x{height}: crop or scale"
                    " all images to one size first"
                )
            if image.format != _PHONE and (frames := getattr(image, "n_frames", 1)) > 1:
                raise UsageError(f"{paths[row]} has {frames} frames: save the one that is meant as a file of its own")
            converted, done = _convert(image, mode)
            x[row] = np.asarray(converted).reshape(height, width, -1).transpose(2, 0, 1)
            return done

    with ThreadPoolExecutor(_THREADS) as pool:
        done = Counter(one for row in pool.map(fill, range(len(paths))) for one in row)  # or the first failure, by row
    return x, done


def _fail(error: OSError) -> None:
    raise error


def _is_clutter(name: str) -> bool:
    return name[0] == "." or name.lower() in _CLUTTER


def _convert(image: Image.Image, mode: Mode) -> tuple[Image.Image, list[str]]:
    """The image upright, opaque and in `mode`, and what was done for it beyond a change of mode."""
    done = []
    upright = image
    if _orientation(image) != 1:
        upright, done = ImageOps.exif_transpose(image), [TURNED]
    if "A" in upright.getbands() or "transparency" in upright.info:
        layer = upright.convert("RGBA")
        if layer.getchannel("A").getextrema() != (255, 255):
            white = Image.new("RGBA", layer.size, "white")
            upright, done = Image.alpha_composite(white, layer).convert("RGB"), [*done, TRANSPARENT]
    return upright.convert(mode), done


def _header(path: Path) -> tuple[tuple[int, int], str]:
    with _opened(path) as image:
        return _upright_size(image), image.mode


def _upright_size(image: Image.Image) -> tuple[int, int]:
    return image.size[::-1] if _orientation(image) > 4 else image.size


def _orientation(image: Image.Image) -> int:
    found = image.getexif().get(_ORIENTATION, 1) if image.format in _TURNED else 1
    return found if isinstance(found, int) and 1 <= found <= 8 else 1


def _is_deep(image: Image.Image) -> bool:
    """Whether the file has 16 bits a channel, of which Pillow gives 8: its decoder's arguments tell."""
    for codec, _, _, arguments in getattr(image, "tile", []):
        largest = arguments[-1] if codec.startswith("ppm") else 255
        if ";16" in str(arguments) or largest > 255:
            return True
    return False


@contextmanager
def _opened(path: Path) -> Iterator[Image.Image]:
    try:
        with open_file(path) as file, Image.open(file, formats=_FORMATS[path.suffix.lower()]) as image:
            if image.mode not in _MODES or _is_deep(image):
                what = "16 bits per channel" if _is_deep(image) else f"pixels of mode {image.mode}"
                raise UsageError(f"{path} has {what}; save it with 8 bits per channel")
            yield image
    except (FatbenchError, MemoryError):
        raise
    # Decoders fail in many ways on broken files: OSError, SyntaxError, ValueError, DecompressionBombError, ...
    except Exception as error:
        raise UsageError(f"cannot read the image {path} ({type(error).__name__}); replace or remove it") from None
