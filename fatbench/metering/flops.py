"""Counting floating-point operations while something runs."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Self

from torch.utils.flop_counter import FlopCounterMode
from torch.utils.module_tracker import ModuleTracker


@dataclass
class FlopCount:
    """The floating-point operations of a block, known once it has ended; a multiply-add is two."""

    total: int = 0


@contextmanager
def counted_flops() -> Iterator[FlopCount]:
    """Count what runs inside, forward and backward: convolutions, matrix products and attention, by torch's formulas.

    Only what executes is counted, so an attack that lets autograd prune the weight gradients is not charged for them,
    nor a plain update for the gradient of its images. Element-wise work (batch norm, ReLU, the optimiser) is none, as
    is usual. torch (2.14) counts the weight gradient of a grouped convolution as if it were dense.

    Nothing is compiled inside: torch.compile steps back while operations are being watched.
    """
    count = FlopCount()
    counter = FlopCounterMode(display=False)
    counter.mod_tracker = _NoModules()
    with counter:
        yield count
    count.total = counter.get_total_flops()


class _NoModules(ModuleTracker):
    """Attributes nothing to modules: torch would hook their inputs, at which attacks could then not differentiate.

    (autograd.grad: "A leaf node was passed to _will_engine_execute_node", torch 2.14)
    """

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        return None
