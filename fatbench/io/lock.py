"""One process at a time for each run of a folder, and whether there is one. No torch here."""

import errno
import os
import re
import stat
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from fatbench.errors import ResourceError, UsageError, WriteError
from fatbench.io.atomic import make_folder
from fatbench.io.safe_read import read_file

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

_TEMPORARY = re.compile(r"\..+\.[a-z0-9_]{8}")  # as tempfile names them
_FLAGS = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
_LONGEST = 2**10  # bytes
_TRIES, _PAUSE = 3, 0.03  # seconds: for a moment `is_held` has a lock too, which is no reason to refuse a run
_FAR = 2**30  # msvcrt locks bytes, and nobody could read the process's number in a locked one


@contextmanager
def locked(folder: Path, run_id: str) -> Iterator[None]:
    """Keep other processes from writing the run `run_id` of this folder.

    The lock is the operating system's, on folder/.<id>.lock: it goes with its process, however that ends. What killed
    processes had half written is removed.

    Raises:
        ResourceError: another process has it, or the folder cannot be written.
    """
    path = _place(folder, run_id)
    make_folder(folder)
    try:
        handle = _acquire(path)
    except OSError as error:
        raise WriteError(path if os.path.lexists(path) else folder, error) from None
    if handle is None:
        raise ResourceError(f"{run_id} is being run by {_owner(path)}: wait for it, or choose another --output")
    try:
        os.ftruncate(handle, 0)
        os.write(handle, b"%d\n" % os.getpid())
        _sweep(folder, run_id)
        yield
    finally:
        with suppress(OSError):  # an open file cannot be removed on Windows: there it stays, unlocked
            path.unlink()
        os.close(handle)


def is_held(folder: Path, run_id: str) -> bool:
    """Return whether a process is at that run; where that cannot be found out, it may be."""
    try:
        handle = os.open(_place(folder, run_id), _FLAGS & ~os.O_CREAT)
    except FileNotFoundError:
        return False
    except (OSError, ValueError):
        return True
    try:
        return _is_nobodys(os.fstat(handle)) and not _lock(handle)
    except OSError:  # a file system that cannot lock
        return True
    finally:
        os.close(handle)


def _place(folder: Path, run_id: str) -> Path:
    return folder / f".{run_id}.lock"


def _acquire(path: Path) -> int | None:
    """Return a handle of the locked file, or None where it is another's."""
    tries = 0
    while True:
        handle = os.open(path, _FLAGS, 0o666)
        if not _is_nobodys(os.fstat(handle)):
            os.close(handle)
            raise OSError(errno.EEXIST, "something else is there that is no lock")
        if not _lock(handle):
            os.close(handle)
            tries += 1
            if tries == _TRIES:
                return None
            time.sleep(_PAUSE)
            continue
        try:
            mine = os.path.samestat(os.fstat(handle), path.lstat())
        except FileNotFoundError:
            mine = False
        if mine:
            return handle
        os.close(handle)  # its owner removed it between opening and locking: this is a file that nobody else sees


def _is_nobodys(found: os.stat_result) -> bool:
    """Whether it is a file that goes by no other name: what is written into a lock is lost."""
    return stat.S_ISREG(found.st_mode) and found.st_nlink <= 1


def _lock(handle: int) -> bool:
    try:
        if sys.platform == "win32":
            os.lseek(handle, _FAR, os.SEEK_SET)
            msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)
            os.lseek(handle, 0, os.SEEK_SET)
        else:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        return False
    return True


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
