"""Ctrl-C and SIGTERM: how a run is asked to leave off, and what is said of it then."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from fatbench import record
from fatbench.cli.complaint import INTERRUPTED, say
from fatbench.errors import UsageError
from fatbench.record import Record
from fatbench.spec import RunSpec
from fatbench.stop import Stop

TERMINATED = 75  # EX_TEMPFAIL: try again later, which is what whoever sends SIGTERM means
_STATES = ("running-state.safetensors", "state.safetensors")


class Signals(Stop):
    """A wish that comes by signals: the first is heeded where nothing is lost, a second one ends the run at once."""

    exit_code = INTERRUPTED

    def heed(self, number: int, _frame: FrameType | None) -> None:
        """A signal has come.

        Raises:
            KeyboardInterrupt: nobody looks whether the run should leave off, or it was asked to already.
        """
        self.exit_code = TERMINATED if number == signal.SIGTERM else INTERRUPTED
        if self.asked or not self.heeded:
            raise KeyboardInterrupt
        self.asked = True


@contextmanager
def heeding_signals() -> Iterator[Signals]:
    """Let SIGINT and SIGTERM reach a run as a wish, then do what they did before; other threads get none."""
    signals = Signals()
    numbers = (signal.SIGINT, signal.SIGTERM) if threading.current_thread() is threading.main_thread() else ()
    # A shell's background job ignores SIGINT, and is to go on doing so.
    before = {number: handler for number in numbers if (handler := signal.getsignal(number)) is not signal.SIG_IGN}
    for number in before:
        signal.signal(number, signals.heed)
    try:
        yield signals
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def say_interrupted(spec: RunSpec, output: Path, code: int = INTERRUPTED) -> int:
    """Print one line about the run `spec` that was interrupted, and return the exit code."""
    places = (output / spec.id / "running.json", output / f"{spec.id}.json")
    found = [(path, kept) for path in places if (kept := _interrupted(path)) is not None]
    if not found:
        return say("interrupted; the same command starts again", code)
    path, kept = found[0]
    what = f"interrupted; what was earned is in {path}"
    trained = spec.epochs == 0 or "weights" in kept.artefacts
    if trained and path == places[1]:
        return say(f"{what}; the same command goes on with the evaluation", code)
    state = any((output / spec.id / name).exists() for name in _STATES)
    where = "" if output == Path("results") else f" --output {output}"
    again = f"fatbench resume {spec.id}{where} goes on" if state else "the same command starts this run again"
    return say(f"{what}; {again}", code)


def _interrupted(path: Path) -> Record | None:
    try:
        found = record.load(path) if path.exists() else None
    except UsageError:
        return None
    return found if found is not None and found.status == "interrupted" else None
