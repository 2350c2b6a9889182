"""SIGINT and SIGTERM: how they end the process, or ask a run to stop where nothing is lost."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from fatbench.cancellation import CancelToken

INTERRUPTED, TERMINATED = 130, 75  # EX_TEMPFAIL: try again later, which is what whoever sends SIGTERM means


class Ended(BaseException):
    """A signal has ended the process; nothing but `main` catches it."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.exit_code = exit_code_of(number)


def exit_code_of(number: int) -> int:
    """Return the exit code of a process that the signal has ended."""
    return TERMINATED if number == signal.SIGTERM else INTERRUPTED


def end_process(number: int, _frame: FrameType | None) -> None:
    """Handle a signal by ending the process.

    Raises:
        Ended: always.
    """
    raise Ended(number)


@contextmanager
def handled(handler: "signal._HANDLER") -> Iterator[None]:
    """Handle SIGINT and SIGTERM by `handler` inside, then as before, unless `ignore_signals` was called inside.

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


class Signals(CancelToken):
    """A cancellation by signals: the first is heeded where nothing is lost, a second one ends the run at once."""

    exit_code = INTERRUPTED

    def handle(self, number: int, _frame: FrameType | None) -> None:
        """Handle a signal.

        Raises:
            KeyboardInterrupt: nobody polls the token, or it was requested already.
        """
        self.exit_code = exit_code_of(number)
        if self.requested or not self.polled:
            raise KeyboardInterrupt
        self.requested = True


@contextmanager
def cancel_on_signals() -> Iterator[Signals]:
    """Let SIGINT and SIGTERM cancel a run inside, then do what they did before; other threads get none."""
    signals = Signals()
    with handled(signals.handle):
        yield signals


def _numbers() -> tuple[signal.Signals, ...]:
    return (signal.SIGINT, signal.SIGTERM) if threading.current_thread() is threading.main_thread() else ()
