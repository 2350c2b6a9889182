"""One process at a time for each run of a folder, and whether there is one. No torch here."""

import errno
import os
import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from fatbench.errors import ResourceError, UsageError, WriteError
from fatbench.io.atomic import make_folder
from fatbench.io.safe_read import read_file

_TEMPORARY = re.compile(r"\..+\.[a-z0-9_]{8}")  # as tempfile names them
_LONGEST = 2**10  # bytes
_PATIENCE, _PAUSE = 0.1, 0.03  # seconds: for a moment `is_held` has a lock too, which is no reason to refuse a run


@contextmanager
def locked(folder: Path, run_id: str) -> Iterator[None]:
    """Keep other processes from writing the run `run_id` of this folder.

    The lock is the operating system's, on folder/.<id>.lock: it goes with its process, however that ends. Temporary
    files that killed processes left are removed.

    Raises:
        ResourceError: another process has it, or the folder cannot be written.
    """
    path = _place(folder, run_id)
    make_folder(folder)
    lock = FileLock(path, timeout=_PATIENCE, poll_interval=_PAUSE)
    try:
        if os.path.lexists(path) and not _is_lock_file(path):
            raise OSError(errno.EEXIST, "something else is there that is no lock")
        lock.acquire()
        path.write_text(f"{os.getpid()}\n")
    except Timeout:
        raise ResourceError(
            f"{run_id} is being run by {_owner(path)}: wait for it, or choose another --output"
        ) from None
    except OSError as error:
        raise WriteError(path if os.path.lexists(path) else folder, error) from None
    try:
        _sweep(folder, run_id)
        yield
    finally:
        with suppress(OSError):  # an open file cannot be removed on Windows: there it stays, unlocked
            path.unlink()  # before the release: whoever waits for it then sees that it is gone, and makes another
        lock.release()


def is_held(folder: Path, run_id: str) -> bool:
    """Return whether a process is at that run; where that cannot be found out, it may be."""
    path = _place(folder, run_id)
    try:
        if not os.path.lexists(path):
            return False
        if _is_lock_file(path):
            with FileLock(path, blocking=False):
                return False
    except FileNotFoundError:
        return False
    except (Timeout, OSError, ValueError):
        pass
    return True


def _place(folder: Path, run_id: str) -> Path:
    return folder / f".{run_id}.lock"


def _is_lock_file(path: Path) -> bool:
    """Whether it is a file that goes by no other name: what is written into a lock is lost."""
    found = path.lstat()
    return stat.S_ISREG(found.st_mode) and found.st_nlink <= 1


def _owner(path: Path) -> str:
    try:
        number = read_file(path, _LONGEST).decode().strip()
    except (UsageError, UnicodeDecodeError):
        number = ""
    return f"process {number}" if number.isdecimal() else "another process"


def _sweep(folder: Path, run_id: str) -> None:
    """Remove temporary files of this run, which only processes that were killed leave: see `write_atomically`."""
    inside = folder / run_id
    for file in [*folder.glob(f".{run_id}.json.*"), *inside.glob(".*"), *inside.glob("*/.*")]:
        if _TEMPORARY.fullmatch(file.name):
            with suppress(OSError):
                file.unlink()
