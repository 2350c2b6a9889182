"""A stand-in for a CUDA graph: operations are taken down once and then done again, with no Python between them."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only

from fatbench.training.engine.capture import CannotCaptureError


class _Tape(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.calls: list[Any] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.ops.aten._local_scalar_dense.default:
            raise CannotCaptureError("it waits for the device: a graph cannot hold what waits for the device")
        result = func(*args, **(kwargs or {}))
        # `data` shares the memory but not the version counter: what is replayed changes tensors unseen by torch.
        self.calls.append((func, *tree_map_only(Tensor, lambda one: one.data, (args, kwargs or {}, result))))
        return result


def record(work: Callable[[], None], device: torch.device) -> Callable[[], None]:
    """Do `work` twice, take it down while it is done once more, and return what replays it in the same memory.

    As with a CUDA graph, whatever Python decided (branches, version counters, plain numbers) stays as it was, random
    numbers are drawn afresh, and waiting for the device is an error.
    """
    for _ in range(2):
        work()
    tape = _Tape()
    with tape:
        work()
    return lambda: _replay(tape.calls)


@torch.no_grad()
def _replay(calls: list[Any]) -> None:
    for func, args, kwargs, result in calls:
        again = func(*args, **kwargs)
        for place, value in zip(tree_leaves(result), tree_leaves(again), strict=True):
            if isinstance(place, Tensor) and place.data_ptr() != value.data_ptr():
                place.copy_(value)
