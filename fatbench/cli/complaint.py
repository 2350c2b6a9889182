"""A failure in one line, and its exit code."""

import os
import traceback
from pathlib import Path

import typer

from fatbench.errors import FatbenchError, one_line

INTERNAL, INTERRUPTED = 1, 130


def complain(error: Exception, prefix: str = "") -> int:
    """Print what went wrong to stderr and return the exit code; what is not a FatbenchError is a bug in fatbench."""
    if isinstance(error, FatbenchError):
        return say(f"{prefix}{error}", error.exit_code)
    if os.environ.get("FATBENCH_DEBUG"):
        traceback.print_exception(error)
        return INTERNAL
    where = traceback.extract_tb(error.__traceback__)[-1]
    what = f"{type(error).__name__}: {error}"
    place = f"{Path(where.filename).name}:{where.lineno}"
    return say(f"{prefix}internal error at {place}: {what} (FATBENCH_DEBUG=1 shows all)", INTERNAL)


def say(message: str, code: int) -> int:
    """Print `message` as one line to stderr, and return `code`."""
    if message.strip():
        typer.echo(f"fatbench: {one_line(message)}", err=True)
    return code
