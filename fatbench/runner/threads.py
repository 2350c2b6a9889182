"""How many CPU threads torch computes with."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from fatbench.metering.flops import counted_flops
from fatbench.ops import evaluating
from fatbench.runner.setup import EvalContext

_TINY = 1e9  # FLOPs of a batch's forward; below it threads wait for each other longer than they compute


@contextmanager
def threads(number: int | None) -> Iterator[None]:
    """Compute with so many CPU threads (None leaves it as it is), then with as many as before."""
    before = torch.get_num_threads()
    torch.set_num_threads(number or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@torch.no_grad()
def sensible_threads(context: EvalContext) -> int | None:
    """Return 1 where a CPU would only lose time on threads, None where torch's own choice stands."""
    if context.device.type != "cpu":
        return None
    with evaluating(context.model), counted_flops() as forward:
        context.model(torch.zeros(1, *context.dataset.shape))
    size = context.spec.train.batch_size if context.spec.train else context.spec.eval.batch_size
    return 1 if forward.total * size < _TINY else None
