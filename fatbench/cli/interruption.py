"""Ctrl-C and SIGTERM: how a run is asked to leave off, and what is said of it then."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import FrameType
from typing import Any

from fatbench.cancellation import CancelToken
from fatbench.cli.errors import INTERRUPTED, say
from fatbench.cli.resume_hint import interruption_hint
from fatbench.cli.signals import exit_code_of, handled, ignore_signals
from fatbench.config.spec import RunSpec


class Signals(CancelToken):
    """A wish that comes by signals: the first is heeded where nothing is lost, a second one ends the run at once."""

    exit_code = INTERRUPTED

    def heed(self, number: int, _frame: FrameType | None) -> None:
        """A signal has come.

        Raises:
            KeyboardInterrupt: nobody looks whether the run should leave off, or it was asked to already.
        """
        self.exit_code = exit_code_of(number)
        if self.requested or not self.polled:
            raise KeyboardInterrupt
        self.requested = True


@contextmanager
def cancel_on_signals() -> Iterator[Signals]:
    """Let SIGINT and SIGTERM reach a run as a wish, then do what they did before; other threads get none."""
    signals = Signals()
    with handled(signals.heed):
        yield signals


def report_interrupted(spec: RunSpec, options: Mapping[str, Any], code: int = INTERRUPTED) -> int:
    """Print one line about the run `spec` that was interrupted, and return the exit code; see `interruption_hint`."""
    ignore_signals()
    return say(f"interrupted; {interruption_hint(spec, options)}", code)
