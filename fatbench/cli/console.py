"""What the command line prints: consoles, single lines and errors on stderr, JSON."""

import os
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import IO

import typer
from rich.console import Console

from fatbench.config.spec import RunSpec
from fatbench.errors import FatbenchError, ResourceError, one_line
from fatbench.record import Record

INTERNAL = 1  # the exit code of a bug


class _Console(Console):
    """A console whose reader may leave, as `head` does: what is under way goes on, unseen."""

    def on_broken_pipe(self) -> None:
        _discard(self.file)


def echo(text: str) -> None:
    """Print `text` to stdout as it is; its reader may leave, too."""
    try:
        typer.echo(text, nl=not text.endswith("\n"))
    except BrokenPipeError:
        _discard(sys.stdout)


def _discard(stream: IO[str]) -> None:
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def make_console(*, stderr: bool = False) -> Console:
    """Return a console that prints names and files as they stand: "[red]" and ":smile:" are no markup."""
    return _Console(stderr=stderr, markup=False, emoji=False)


def say(message: str, code: int = 0) -> int:
    """Print `message` as one line to stderr, and return `code`."""
    if message.strip():
        typer.echo(f"fatbench: {one_line(message)}", err=True)
    return code


def json_list(things: Sequence[RunSpec | Record]) -> str:
    """Return the things as one JSON array."""
    return "[" + ",\n".join(thing.model_dump_json(by_alias=True) for thing in things) + "]"


def report_error(error: Exception, prefix: str = "") -> int:
    """Print what went wrong to stderr and return the exit code; what is not a FatbenchError is a bug in fatbench."""
    if isinstance(error, FatbenchError):
        return say(f"{prefix}{error}", error.exit_code)
    if os.environ.get("FATBENCH_DEBUG"):
        traceback.print_exception(error)
        return INTERNAL
    if isinstance(error, (OSError, MemoryError)):  # the machine's limits, wherever they are met
        return say(f"{prefix}{_limit(error)}", ResourceError.exit_code)
    where = traceback.extract_tb(error.__traceback__)[-1]
    what = f"{type(error).__name__}: {error}"
    place = f"{Path(where.filename).name}:{where.lineno}"
    return say(f"{prefix}internal error at {place}: {what} (FATBENCH_DEBUG=1 shows all)", INTERNAL)


def _limit(error: OSError | MemoryError) -> str:
    if isinstance(error, MemoryError):
        return "out of memory: try it on less, or on a larger machine"
    named = f" ({error.filename})" if error.filename else ""
    return f"the system refuses: {error.strerror or error}{named}"
