"""A machine whose time passes in optimiser steps alone, so that no other load on it changes what a test sees."""

from collections.abc import Callable

import pytest

from fatbench.training import clock
from fatbench.training.loop import Training


def let_steps_take(monkeypatch: pytest.MonkeyPatch, seconds: float) -> Callable[[], float]:
    """Let each optimiser step take so many seconds and all else none; return a function that tells the time."""
    now, count = [0.0], Training._count

    def counted(training: Training, steps: int) -> None:
        now[0] += steps * seconds
        count(training, steps)

    monkeypatch.setattr(Training, "_count", counted)
    monkeypatch.setattr("fatbench.runner.setup.Clock", lambda device: clock.Clock(device, now=lambda: now[0]))
    return lambda: now[0]
