"""Asking a run to leave off, which it does where nothing is lost."""

from collections.abc import Iterator
from contextlib import contextmanager


class Interrupted(KeyboardInterrupt):
    """The run was asked to leave off, and has: its state is kept."""


class Stop:
    """A wish that a run may be told of, from a signal handler or another thread.

    While the run is `heeding`, it looks after every batch whether it is `asked`; at other times it does not look, and
    whoever wishes it to end must interrupt it.
    """

    def __init__(self) -> None:
        self.asked = False
        self.heeded = False

    @contextmanager
    def heeding(self) -> Iterator[None]:
        """What happens inside looks at `asked` often."""
        self.heeded = True
        try:
            yield
        finally:
            self.heeded = False
