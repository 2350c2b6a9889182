"""One batch's whole work as one CUDA graph: gather, attack, losses, backward passes, optimiser steps."""

import gc
import os
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path

import torch
from torch import Tensor
from torch.autograd.graph import increment_version

from fatbench.data.loader import Plan
from fatbench.errors import one_line

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
            record: returns what replays a function; a CUDA graph by default.

        Raises:
            CannotCaptureError: see `record_cuda_graph`.
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
    """Return what replays `work` on the GPU `device`; the work is done three times before it is recorded.

    Raises:
        CannotCaptureError: it waits for the device, or the recording failed. Eager work can go on: stream and random
            generator are as before, and whoever calls restores what the work has changed.
    """
    drawn = torch.cuda.get_rng_state(device)
    try:
        with torch.cuda.device(device), _no_garbage_collection():
            return _recorded(work, _capture_stream(device))
    except CannotCaptureError:
        torch.cuda.set_rng_state(drawn, device)
        raise
    except BaseException as error:
        _renew_generator(device, drawn)
        if not isinstance(error, Exception):  # Ctrl-C
            raise
        # Whatever it is, without a graph there may be no such fault.
        raise CannotCaptureError(one_line(f"capture failed: {type(error).__name__}: {error}")) from error


def _recorded(work: Callable[[], None], stream: torch.cuda.Stream) -> Callable[[], None]:
    current = torch.cuda.current_stream()
    stream.wait_stream(current)
    torch.cuda.empty_cache()  # the allocator keeps memory by stream
    try:
        with torch.cuda.stream(stream):
            for _ in range(_WARM_UPS - 1):
                work()
            _rehearse(work)
    finally:  # what is done on the current stream from now on comes after it
        current.wait_stream(stream)
        torch.cuda.synchronize()
    graph, pool = torch.cuda.CUDAGraph(), torch.cuda.graph_pool_handle()
    try:
        with torch.cuda.graph(graph, pool=pool, stream=stream):
            work()
    except BaseException:
        _close_pool(pool)
        raise
    finally:  # torch's own way out skips this where the recording ends in an error
        torch.cuda.set_stream(current)
    return graph.replay


def _close_pool(pool: tuple[int, int]) -> None:
    """Let the allocator forget a recording that broke off; torch's own way out leaves it waiting for the rest."""
    with suppress(AttributeError, RuntimeError):  # closed already, or of a torch that has no such names
        torch._C._cuda_endAllocateToPool(torch.cuda.current_device(), pool)
        torch._C._cuda_releasePool(torch.cuda.current_device(), pool)


@cache
def _capture_stream(device: torch.device) -> torch.cuda.Stream:
    """One stream per device: memory that the allocator keeps for a stream serves the next recording too."""
    return torch.cuda.Stream(device)  # type: ignore[no-untyped-call]


@contextmanager
def _no_garbage_collection() -> Iterator[None]:
    """Collect garbage now and not inside: a tensor of another stream that is freed during a recording breaks it."""
    gc.collect()
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _renew_generator(device: torch.device, state: Tensor) -> None:
    """Give the device's generator a fresh inside, in the state `state`.

    One whose recording broke off still expects its end, and would refuse to draw.
    """
    index = torch.cuda.current_device() if device.index is None else device.index
    torch.cuda.default_generators[index].graphsafe_set_state(torch.Generator(device))
    torch.cuda.set_rng_state(state, device)


def _rehearse(work: Callable[[], None]) -> None:
    """Do `work` once; what it may not do in a recording is found while it can still be done without one."""
    try:
        with _waiting_forbidden():
            work()
    except RuntimeError as error:
        if "synchronizing" not in str(error):  # torch's word for it
            raise
        raise CannotCaptureError(one_line(f"it waits for the device: {error}{_own_line(error)}")) from error


def _own_line(error: BaseException) -> str:
    """Return " (method.py:12)" for the innermost line outside of torch that the error came through."""
    frames = [one for one in traceback.extract_tb(error.__traceback__) if f"{os.sep}torch{os.sep}" not in one.filename]
    return f" ({Path(frames[-1].filename).name}:{frames[-1].lineno})" if frames else ""


@contextmanager
def _waiting_forbidden() -> Iterator[None]:
    """Raise where the host would wait for the device."""
    before = torch.cuda.get_sync_debug_mode()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Synchronization debug mode is a prototype")
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
    before = {name: tensor.detach().to("cpu", copy=True) for name, tensor in state().items()}  # a GPU needs its room
    try:
        yield
    finally:
        with torch.no_grad():
            for name, tensor in state().items():
                if name in before:
                    tensor.copy_(before[name])
                else:
                    tensor.zero_()
