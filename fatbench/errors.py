"""Errors that the user can fix, each with its exit code.

Every message is one line that says what is wrong and what to do about it. Anything else that escapes is a bug
in fatbench, and exits with 1.
"""

import errno
from pathlib import Path

_LONGEST = 600
_REMEDIES = {
    **dict.fromkeys((errno.EACCES, errno.EPERM, errno.EROFS), "make it writable"),
    **dict.fromkeys((errno.ENOSPC, errno.EDQUOT), "make room there"),
}


def one_line(text: str) -> str:
    """Return `text` fit for a terminal and a file: one line, no control characters, not endless."""
    printable = "".join(character if character.isprintable() else " " for character in text[: 2 * _LONGEST])
    line = " ".join(printable.split())
    return line if len(line) <= _LONGEST else f"{line[:_LONGEST]} ..."


class FatbenchError(Exception):
    """A failure that the user can fix; the command line prints its message and exits with `exit_code`.

    Messages quote untrusted input, so they are made one printable line here, once.
    """

    exit_code = 1

    def __init__(self, message: str) -> None:
        super().__init__(one_line(message))


class UsageError(FatbenchError):
    """A flag, file or value that cannot be right: unknown name, malformed record, wrong-shaped data."""

    exit_code = 2


class InvalidRunError(FatbenchError):
    """The run itself broke a contract: diverged, or a model that does not keep the model contract."""

    exit_code = 4


class ResourceError(FatbenchError):
    """Something the machine lacks: data that is not there, a device, memory, a place to write."""

    exit_code = 6


class WriteError(ResourceError):
    """A place cannot be written. Another folder is the remedy, unless there is a run to resume in this one."""

    def __init__(self, place: Path, error: OSError) -> None:
        self.problem = f"cannot write {place}: {error.strerror or error}"
        self.remedy = _REMEDIES.get(error.errno or 0, "fix that")
        super().__init__(f"{self.problem}; choose another --output")
