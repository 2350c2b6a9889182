"""One batch's whole work as one CUDA graph: gather, attack, losses, backward passes, optimiser steps."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor
from torch.autograd.graph import increment_version

from fatbench.data.loader import Plan
from fatbench.errors import InvalidRunError, one_line

_WARM_UPS = 3  # lazy initialisation, cuDNN's choice of algorithms and the allocator have settled by then

Work = Callable[[Plan, Tensor], None]
"""Carries out a plan, taking progress and learning rate of its steps from the rows of the tensor (updates, 2)."""
Recorder = Callable[[Callable[[], None], torch.device], Callable[[], None]]


class CannotCaptureError(Exception):
    """The work is not of the kind that a CUDA graph can hold; the message says why."""


class CapturedBatch:
    """A batch's work, recorded once and replayed with other images, progress and learning rates."""

    def __init__(
        self,
        work: Work,
        plan: Plan,
        updates: int,
        *,
        changed: Callable[[], dict[str, Tensor]],
        record: Recorder | None = None,
    ) -> None:
        """Record `work`. It is really done a few times: whoever calls restores what it has changed.

        Args:
            work: everything between a plan and the last optimiser step, in place and without waiting for the device.
            plan: any batch's, for its shapes.
            updates: optimiser steps that a batch is worth.
            changed: the tensors that the work changes.
            record: returns what replays a function; a CUDA graph by default.

        Raises:
            CannotCaptureError, InvalidRunError: see `record_cuda_graph`.
        """
        device = plan.rows.device
        self.updates = updates
        self._changed = changed
        self._plan = Plan(*(values.clone() for values in plan))
        self._pace = torch.zeros(updates, 2, device=device)
        self._replay = (record or record_cuda_graph)(lambda: work(self._plan, self._pace), device)

    def replay(self, plan: Plan, pace: Sequence[tuple[float, float]]) -> None:
        """Do the work of `plan`, with the (progress, learning rate) of each of its steps; does not wait for it."""
        for mine, given in zip(self._plan, plan, strict=True):
            mine.copy_(given)
        values = torch.tensor(pace)
        if self._pace.is_cuda:
            values = values.pin_memory()  # or the copy would wait until the device is idle
        self._pace.copy_(values, non_blocking=True)
        self._replay()
        increment_version(list(self._changed().values()))  # torch has not seen the graph change them


def record_cuda_graph(work: Callable[[], None], device: torch.device) -> Callable[[], None]:
    """Return what replays `work` on the GPU `device`; it is done three times before it is recorded.

    Raises:
        CannotCaptureError: it waits for the device, which no graph can hold.
        InvalidRunError: the recording broke off, after which torch's generators are in no state to go on.
    """
    graph, stream = torch.cuda.CUDAGraph(), torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
    with torch.cuda.device(device):
        stream.wait_stream(torch.cuda.current_stream())
        try:
            with torch.cuda.stream(stream):
                for _ in range(_WARM_UPS - 1):
                    work()
                _rehearse(work)
        finally:  # whoever goes on without a graph, or restores what was done, comes after it
            torch.cuda.current_stream().wait_stream(stream)
            torch.cuda.synchronize()
        try:
            with torch.cuda.graph(graph, stream=stream):
                work()
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:
            raise InvalidRunError(f"recording a CUDA graph failed; --without graph does without: {error}") from error
    return graph.replay


def _rehearse(work: Callable[[], None]) -> None:
    """Do `work` once; what it may not do in a recording is found while it can still be done without one."""
    try:
        with _waiting_forbidden():
            work()
    except RuntimeError as error:
        if "synchronizing" not in str(error):  # torch's word for it
            raise
        raise CannotCaptureError(one_line(f"it waits for the device: {error}")) from error


@contextmanager
def _waiting_forbidden() -> Iterator[None]:
    """Raise where the host would wait for the device."""
    before = torch.cuda.get_sync_debug_mode()
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode(before)


@contextmanager
def undone(state: Callable[[], dict[str, Tensor]]) -> Iterator[None]:
    """Give the tensors of `state` their values back afterwards; those that came into being meanwhile become zeros.

    Momentum and a method's buffers begin as zeros, so training that follows is as if nothing had been. They are known
    by name: a network may have put another tensor in a buffer's place.
    """
    before = {name: tensor.detach().clone() for name, tensor in state().items()}
    try:
        yield
    finally:
        with torch.no_grad():
            for name, tensor in state().items():
                if name in before:
                    tensor.copy_(before[name])
                else:
                    tensor.zero_()
