"""Cooperative cancellation: a run stops between two batches, where nothing is lost."""

from collections.abc import Iterator
from contextlib import contextmanager


class Interrupted(KeyboardInterrupt):
    """The run was cancelled and has stopped; its checkpoint is kept."""


class CancelToken:
    """Asks a run to stop, from a signal handler or another thread.

    While the run is `polling`, it checks `requested` after every batch; at other times it must be interrupted.
    """

    def __init__(self) -> None:
        self.requested = False
        self.polled = False

    @contextmanager
    def polling(self) -> Iterator[None]:
        """What happens inside looks at `requested` often."""
        self.polled = True
        try:
            yield
        finally:
            self.polled = False
