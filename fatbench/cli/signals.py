"""The way in: signals are minded from the first moment, before anything that takes time is imported."""

import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

INTERRUPTED, TERMINATED = 130, 75  # EX_TEMPFAIL: try again later, which is what whoever sends SIGTERM means


class Ended(BaseException):
    """A signal has ended the process; nothing but `main` catches it."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.exit_code = exit_code_of(number)


def exit_code_of(number: int) -> int:
    """Return the exit code of a process that the signal has ended."""
    return TERMINATED if number == signal.SIGTERM else INTERRUPTED


@contextmanager
def handled(handler: "signal._HANDLER") -> Iterator[None]:
    """Have SIGINT and SIGTERM handled so, then as they were before, unless `ignore_signals` was called inside.

    Threads other than the main one get none.
    """
    # A shell's background job ignores SIGINT, and is to go on doing so.
    before = {number: known for number in _numbers() if (known := signal.getsignal(number)) is not signal.SIG_IGN}
    for number in before:
        signal.signal(number, handler)
    try:
        yield
    finally:
        for number, known in before.items():
            if signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(number, known)


def ignore_signals() -> None:
    """Ignore SIGINT and SIGTERM from here to the end of the process, in which nothing is left to interrupt.

    While Python shuts down, a handler of Python's own would end in a traceback, or the signal kill the process.
    """
    for number in _numbers():
        signal.signal(number, signal.SIG_IGN)


def _numbers() -> tuple[signal.Signals, ...]:
    return (signal.SIGINT, signal.SIGTERM) if threading.current_thread() is threading.main_thread() else ()


def main() -> None:
    """Run the command line and exit; see `fatbench.cli.app.main` for the codes."""
    try:
        with handled(_end):
            from fatbench.cli.app import main as run

            try:
                run()
            finally:
                ignore_signals()
    except Ended as end:
        ignore_signals()
        sys.stderr.write("fatbench: interrupted\n")
        sys.exit(end.exit_code)


def _end(number: int, _frame: FrameType | None) -> None:
    raise Ended(number)
