"""What happens to files on their way: the same damage every time, by name."""

import os
import random
from collections.abc import Callable, Iterator
from pathlib import Path

Named = Iterator[tuple[str, bytes]]
Write = Callable[[Path], None]  # puts something at that path


def truncated(content: bytes, places: int) -> Named:
    """Yield beginnings of the content, evenly spaced, and all of it but the last byte."""
    for k in range(1, places):
        yield f"cut-{k}-of-{places}", content[: len(content) * k // places]
    yield "cut-by-one", content[:-1]


def flipped(content: bytes, times: int) -> Named:
    """Yield the content with one bit turned, wherever chance has it."""
    draw = random.Random(0)
    for k in range(times):
        changed = bytearray(content)
        changed[draw.randrange(len(changed))] ^= 1 << draw.randrange(8)
        yield f"bit-{k}", bytes(changed)


def scrambled(content: bytes, times: int) -> Named:
    """Yield the content with a stretch of it replaced, repeated or left out."""
    draw = random.Random(1)
    for k in range(times):
        start, length = draw.randrange(len(content)), draw.randrange(1, 200)
        middle = (draw.randbytes(length), content[start : start + length] * 2, b"", b"\0" * length)[k % 4]
        yield f"stretch-{k}", content[:start] + middle + content[start + length :]


def foreign(content: bytes) -> Named:
    """Yield what is something else altogether, or the content in a wrapping that its readers do not expect."""
    yield "empty", b""
    yield "blank", b" \n" * 40
    yield "null-bytes", bytes(4096)
    yield "noise", random.Random(2).randbytes(4096)
    yield "byte-order-mark", b"\xef\xbb\xbf" + content
    yield "null-inside", content[: len(content) // 2] + b"\0" + content[len(content) // 2 :]
    yield "not-utf8", content[: len(content) // 3] + b"\xff\xfe\xed\xa0\x80" + content[len(content) // 3 :]
    yield "web-page", b"<!DOCTYPE html><html><body>404</body></html>"
    yield "lfs-pointer", b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 12345\n"
    yield "elf", b"\x7fELF\x02\x01\x01" + bytes(200)
    yield "gzip", b"\x1f\x8b\x08\x00" + bytes(50)


def damaged(content: bytes, times: int) -> Named:
    """Yield all of the above, about five times `times`."""
    yield from truncated(content, times)
    yield from flipped(content, times)
    yield from scrambled(content, times)
    yield from foreign(content)


def no_files() -> Iterator[tuple[str, Write]]:
    """Yield what stands where a file should, and is none: none of it may be waited for or read to its end."""
    yield "gone", lambda path: None
    yield "folder", lambda path: path.mkdir()
    yield "fifo", lambda path: os.mkfifo(path)
    yield "link-to-nothing", lambda path: path.symlink_to("nowhere")
    yield "link-to-itself", lambda path: path.symlink_to(path.name)
    yield "link-to-folder", lambda path: path.symlink_to("/")
    yield "link-to-zeros", lambda path: path.symlink_to("/dev/zero")
    yield "link-to-terminal", lambda path: path.symlink_to("/dev/tty")
    yield "socket", _socket
    yield "endless", _endless


def _socket(path: Path) -> None:
    import socket

    here = Path.cwd()
    os.chdir(path.parent)  # a socket's address has room for a hundred characters
    try:
        with socket.socket(socket.AF_UNIX) as one:
            one.bind(path.name)
    finally:
        os.chdir(here)


def _endless(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(2**43)  # bytes, none of which takes room on the disk
