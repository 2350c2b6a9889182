"""A failure in one line, and its exit code."""

import os
import traceback
from pathlib import Path

from fatbench.cli.console import say
from fatbench.errors import FatbenchError, ResourceError

INTERNAL = 1


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
