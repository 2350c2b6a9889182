"""Damaged, strange and malicious image folders."""

import shutil
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest

from . import specimens
from .conftest import Answer
from .damage import Write, damaged, no_files

RUN = ("run", "-m", "standard", "-d", "./set", "--epochs", 1, "--eval", "none", "--calibration", 0, "-q")
RUN += ("--batch-size", 4, "--model", "small-cnn")


def png(width: int, height: int, content: bytes = b"", *chunks: tuple[bytes, bytes]) -> bytes:
    """Return a PNG that claims that size."""
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    parts = [(b"IHDR", header), *chunks, (b"IDAT", zlib.compress(content)), (b"IEND", b"")]
    framed = [
        struct.pack(">I", len(one)) + kind + one + struct.pack(">I", zlib.crc32(kind + one)) for kind, one in parts
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(framed)


IMAGES = {
    **dict(damaged(specimens.image(), 6)),
    **{f"jpeg-{name}": content for name, content in damaged(specimens.image(form="JPEG"), 4)},
    "other-size": specimens.image((7, 7)),
    "gif": specimens.image(form="GIF"),
    "tiff": specimens.image(form="TIFF"),
    "bomb-9000": png(9000, 12000),
    "bomb-30000": png(30000, 30000),
    "bomb-2^31": png(2**31 - 1, 2**31 - 1),
    "no-pixels": png(0, 0),
    "less-than-claimed": png(6, 5, b"\0"),
    "text-bomb": png(6, 5, bytes(35), (b"zTXt", b"a\0\0" + zlib.compress(bytes(2**26)))),
    "postscript": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 6 5\n(ran) (w) file\n",
    "svg": b'<svg xmlns="http://www.w3.org/2000/svg"><script>1</script></svg>',
}
LAYOUTS: dict[str, Callable[[Path], object]] = {
    "no-test": lambda folder: shutil.rmtree(folder / "test"),
    "no-classes": lambda folder: [shutil.rmtree(folder / side / "cat") for side in ("train", "test")],
    "test-a-file": lambda folder: (shutil.rmtree(folder / "test"), (folder / "test").write_text("")),
    "class-missing": lambda folder: shutil.rmtree(folder / "test" / "cat"),
    "class-empty": lambda folder: [path.unlink() for path in (folder / "test" / "cat").iterdir()],
    "class-a-loop": lambda folder: (folder / "train" / "loop").symlink_to("loop"),
    "class-upwards": lambda folder: (folder / "train" / "up").symlink_to(".."),
    "class-itself": lambda folder: [(folder / side / "self").symlink_to(".") for side in ("train", "test")],
    "class-of-controls": lambda folder: (folder / "train" / "\x1b[2J\u202e").mkdir(),
    "class-of-bytes": lambda folder: (folder / "train" / "\udcff\udcfe").mkdir(),
    "image-a-folder": lambda folder: (folder / "train" / "cat" / "x.png").mkdir(),
    "hidden": lambda folder: (folder / "train" / "cat" / ".x.png").write_text("not an image"),
    "other-files": lambda folder: (folder / "train" / "cat" / "x.txt").write_text("not an image"),
    "all-gone": lambda folder: shutil.rmtree(folder),
}


@pytest.mark.parametrize("name", IMAGES)
def test_damaged_images(answer: Answer, tmp_path: Path, name: str) -> None:
    specimens.put_images(tmp_path / "set")
    (tmp_path / "set" / "train" / "cat" / "1.png").write_bytes(IMAGES[name])
    answer(*RUN)


@pytest.mark.parametrize("name", ["bomb-9000", "bomb-30000", "bomb-2^31", "no-pixels", "text-bomb"])
def test_a_folder_of_nothing_else(answer: Answer, tmp_path: Path, name: str) -> None:
    specimens.put_images(tmp_path / "set")
    for path in (tmp_path / "set").rglob("*.png"):
        path.write_bytes(IMAGES[name])
    answer(*RUN)


@pytest.mark.parametrize(("name", "write"), list(no_files()))
def test_an_image_that_is_no_file(answer: Answer, tmp_path: Path, name: str, write: Write) -> None:
    specimens.put_images(tmp_path / "set")
    write(tmp_path / "set" / "train" / "cat" / "bad.png")
    answer(*RUN, refused=name != "gone")


@pytest.mark.parametrize("name", LAYOUTS)
def test_odd_folders(answer: Answer, tmp_path: Path, name: str) -> None:
    specimens.put_images(tmp_path / "set")
    LAYOUTS[name](tmp_path / "set")
    answer(*RUN)
