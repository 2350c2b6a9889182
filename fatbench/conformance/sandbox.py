"""Sandbox: a user's method, made to end, and its errors reported in one line."""

import time
import traceback
from dataclasses import replace
from pathlib import Path

from torch import nn

from fatbench.errors import FatbenchError, one_line
from fatbench.interface import Batch, Context, Losses
from fatbench.methods import Method, Value

MOST_LOSSES = 10_000
SECONDS = 20.0


class EndlessError(Exception):
    """A method has worked on one batch for so long that it may never end."""


def sandboxed(method: Method, most: int = MOST_LOSSES, seconds: float = SECONDS) -> Method:
    """Return the method as it is, but for an `EndlessError` where it does not come to the end of a batch.

    Checked whenever the method yields or calls the model; a loop that does neither cannot be stopped.

    Args:
        method: anyone's.
        most: losses that a batch may have.
        seconds: that a batch may take.
    """

    def function(model: nn.Module, batch: Batch, ctx: Context, **hyper: Value) -> Losses:
        started, count = time.perf_counter(), 0

        def stop_if_late(*_: object) -> None:
            if count > most or time.perf_counter() - started > seconds:
                spent = f"{count:,} losses and {time.perf_counter() - started:.1f} s"
                raise EndlessError(f"it does not come to the end of a batch: given up after {spent}")

        hook = model.register_forward_pre_hook(stop_if_late)
        try:
            for loss in method.function(model, batch, ctx, **hyper):
                count += 1
                stop_if_late()
                yield loss
        finally:
            hook.remove()

    return replace(method, function=function)


def describe_error(error: BaseException, path: Path) -> str:
    """Return in one line what was raised, and at which line of the method's file."""
    if isinstance(error, (EndlessError, FatbenchError)):
        return one_line(str(error))
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if Path(frame.filename).resolve() == path.resolve()]
    where = (own or frames)[-1]
    said = f": {error}" if str(error) else ""
    return one_line(f"{type(error).__name__} at {Path(where.filename).name}:{where.lineno}{said}")
