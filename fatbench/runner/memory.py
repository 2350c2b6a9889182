"""Memory: how much a phase took at its peak, and running out of it said in one line with the remedy."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace

from fatbench.config.spec import RunSpec
from fatbench.environment import is_out_of_memory, release_memory
from fatbench.errors import ResourceError
from fatbench.runner.setup import RunContext

_SMALLEST = 2  # images: batch norm needs more than one


def named_peaks(sizes: Mapping[str, int], phase: str) -> dict[str, int]:
    """Return the sizes that `peak_memory` names, by names that begin with the phase's, as records have them."""
    return {f"{phase}_{name}": size for name, size in sizes.items()}


@contextmanager
def training_memory_explained(spec: RunSpec, context: RunContext | None = None) -> Iterator[None]:
    """Name the batch size of training where memory runs out inside, and one that fits, tried if there is a context.

    What was trained inside is gone then.
    """
    with _explained(
        f"training {spec.model} with --batch-size {spec.training.batch_size}", lambda: _remedy(spec, context)
    ):
        yield


def _remedy(spec: RunSpec, context: RunContext | None) -> str:
    if context is None:
        return f"try {max(spec.training.batch_size // 2, 2)}"
    fitting = fitting_batch_size(context)
    if fitting is None:
        return "no smaller one fits either; take a smaller --model or another --device"
    return f"{fitting} fits here (one batch of it was tried)"


@contextmanager
def evaluation_memory_explained(spec: RunSpec) -> Iterator[None]:
    """Name the batch size of evaluation where memory runs out inside."""
    size = spec.eval.batch_size
    with _explained(f"evaluating {spec.model} with --eval-batch-size {size}", lambda: f"try {max(size // 2, 1)}"):
        yield


@contextmanager
def _explained(what: str, remedy: Callable[[], str]) -> Iterator[None]:
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        traceback.clear_frames(error.__traceback__)  # they hold the tensors that did not fit
        raise ResourceError(f"out of memory {what}: {remedy()}") from None


def fitting_batch_size(context: RunContext) -> int | None:
    """Return the first of half, a quarter, ... of the batch size with which one batch can be trained on; None: none.

    The model of the context, and its method's generators, change.
    """
    size = context.spec.training.batch_size // 2
    while size >= _SMALLEST:
        release_memory(context.device)
        if _fits(context, size):
            return size
        size //= 2
    return None


def _fits(context: RunContext, size: int) -> bool:
    smaller = context.spec.replace(batch_size=size)
    smaller_context = replace(context, spec=smaller, loader=context.loader.resized(size))
    context.model.zero_grad(set_to_none=True)
    try:
        smaller_context.training().step_through_batch()
    except (RuntimeError, MemoryError) as error:
        if is_out_of_memory(error):
            return False
        raise
    return True
