"""Ctrl-C and SIGTERM: how a run is asked to leave off, and what is said of it then."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import FrameType
from typing import Any

from fatbench.cli.complaint import INTERRUPTED, say
from fatbench.cli.entry import deafen, exit_code_of, handled
from fatbench.cli.going_on import after_interruption
from fatbench.spec import RunSpec
from fatbench.stop import Stop


class Signals(Stop):
    """A wish that comes by signals: the first is heeded where nothing is lost, a second one ends the run at once."""

    exit_code = INTERRUPTED

    def heed(self, number: int, _frame: FrameType | None) -> None:
        """A signal has come.

        Raises:
            KeyboardInterrupt: nobody looks whether the run should leave off, or it was asked to already.
        """
        self.exit_code = exit_code_of(number)
        if self.asked or not self.heeded:
            raise KeyboardInterrupt
        self.asked = True


@contextmanager
def heeding_signals() -> Iterator[Signals]:
    """Let SIGINT and SIGTERM reach a run as a wish, then do what they did before; other threads get none."""
    signals = Signals()
    with handled(signals.heed):
        yield signals


def say_interrupted(spec: RunSpec, options: Mapping[str, Any], code: int = INTERRUPTED) -> int:
    """Print one line about the run `spec` that was interrupted, and return the exit code; see `after_interruption`."""
    deafen()
    return say(f"interrupted; {after_interruption(spec, options)}", code)
