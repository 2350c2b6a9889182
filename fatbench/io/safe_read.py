"""Safe reads of untrusted files: non-regular and implausibly large ones are rejected."""

import io
import os
import stat
from pathlib import Path

from fatbench.errors import UsageError

_FLAGS = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0)
_KINDS = {stat.S_IFDIR: "a folder", stat.S_IFIFO: "a pipe", stat.S_IFSOCK: "a socket"}


def open_file(path: Path, largest: int | None = None) -> io.BufferedReader:
    """Return the file, open for reading. A pipe or device is refused: one would be waited for, the other never ends.

    Raises:
        UsageError: it cannot be read, is no file, or has more than `largest` bytes.
    """
    try:
        descriptor = os.open(path, _FLAGS)  # not waiting for whoever might write into a pipe
    except (OSError, ValueError) as error:  # a null character
        raise UsageError(f"cannot read {path}: {getattr(error, 'strerror', None) or error}") from None
    found = os.fstat(descriptor)  # of what was opened, not of what has taken its name since
    problem = _problem(found, largest)
    if problem:
        os.close(descriptor)
        raise UsageError(f"cannot read {path}: {problem}")
    return os.fdopen(descriptor, "rb")


def _problem(found: os.stat_result, largest: int | None) -> str:
    if not stat.S_ISREG(found.st_mode):
        return f"it is {_KINDS.get(stat.S_IFMT(found.st_mode), 'a device')}, not a file"
    if largest is not None and found.st_size > largest:
        return f"it has {found.st_size / 2**20:,.0f} MiB, and the limit is {largest / 2**20:,.0f} MiB"
    return ""


def is_directory(path: Path) -> bool:
    """Return whether it is a folder or leads to one; a name may be as strange as it likes."""
    try:
        return path.is_dir()
    except (OSError, ValueError):  # too long, behind a closed door
        return False


def path_exists(path: Path) -> bool:
    """Return whether there is anything of that name; it may be as strange as it likes."""
    try:
        return path.exists()
    except (OSError, ValueError):
        return False


def read_file(path: Path, largest: int) -> bytes:
    """Return the content of the file, of `largest` bytes at most.

    Raises:
        UsageError: it cannot be read, is no file, or is larger.
    """
    with open_file(path, largest) as file:
        try:
            return file.read(os.fstat(file.fileno()).st_size) or b""
        except OSError as error:
            raise UsageError(f"cannot read {path}: {error.strerror or error}") from None
