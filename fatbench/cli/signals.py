"""Signals that end a process: how they do, or ask a run to stop where nothing is lost."""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from fatbench.cancellation import CancelToken

INTERRUPTED, TERMINATED = 130, 75  # EX_TEMPFAIL: try again later, which is what all senders but Ctrl-C mean
_INSISTENT = ("SIGINT", "SIGTERM")  # a second one ends a run at once
# Sent by schedulers and by terminals that close, and often more than once: by kernel and shell, by a script and its
# scheduler, every second beyond a limit on processor time.
_NOTICES = ("SIGHUP", "SIGUSR1", "SIGUSR2", "SIGXCPU")
HANDLED = tuple(getattr(signal, name) for name in (*_INSISTENT, *_NOTICES) if hasattr(signal, name))


class Ended(BaseException):
    """A signal has ended the process; nothing but `main` catches it."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.exit_code = exit_code_of(number)


def exit_code_of(number: int) -> int:
    """Return the exit code of a process that the signal has ended."""
    return INTERRUPTED if number == signal.SIGINT else TERMINATED


def end_process(number: int, _frame: FrameType | None) -> None:
    """Handle a signal by ending the process.

    Raises:
        Ended: always.
    """
    _leave_closed_terminal()
    raise Ended(number)


@contextmanager
def handled(handler: "signal._HANDLER") -> Iterator[None]:
    """Handle signals by `handler` inside, then as before, unless `ignore_signals` was called inside.

    Threads other than the main one get none.
    """
    # A shell's background job ignores SIGINT, and what `nohup` starts SIGHUP; they are to go on doing so.
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
    """Ignore signals from here to the end of the process, in which nothing is left to interrupt.

    While Python shuts down, a handler of Python's own would end in a traceback, or the signal kill the process.
    """
    for number in _numbers():
        signal.signal(number, signal.SIG_IGN)


class Signals(CancelToken):
    """A cancellation by signals: the first is heeded where nothing is lost, a second SIGINT or SIGTERM at once."""

    exit_code = INTERRUPTED

    def handle(self, number: int, _frame: FrameType | None) -> None:
        """Handle a signal.

        Raises:
            KeyboardInterrupt: nobody polls the token, or it was requested already.
        """
        _leave_closed_terminal()
        if self.requested and signal.Signals(number).name in _NOTICES:
            return
        self.exit_code = exit_code_of(number)
        at_once = self.requested or not self.polled
        self.requested = True
        if at_once:
            raise KeyboardInterrupt


@contextmanager
def cancel_on_signals() -> Iterator[Signals]:
    """Let signals cancel a run inside, then do what they did before; other threads get none."""
    signals = Signals()
    with handled(signals.handle):
        yield signals


def _leave_closed_terminal() -> None:
    """Discard what is still to be said to a terminal that is gone, as after SIGHUP: writing would fail."""
    for stream in (1, 2):
        try:
            os.write(stream, b"")
        except OSError:
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, stream)
            os.close(nowhere)


def _numbers() -> tuple[signal.Signals, ...]:
    return HANDLED if threading.current_thread() is threading.main_thread() else ()
