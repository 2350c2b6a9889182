"""The parts of torch.cuda that fatbench uses, for a device that is simulated."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from types import SimpleNamespace
from typing import Any
from unittest import mock

import torch
import torch._dynamo  # before anything is replaced: it looks at torch's types
from torch import Tensor
from torch.utils._pytree import tree_leaves

from fatbench.training.engine.capture import _capture_stream

from . import tensor
from .device import Call, Device, is_drawing
from .modes import Asked, Core

_GIB = 2**30


class Graph:
    """A recording, as a tape."""

    def __init__(self) -> None:
        self.tape: list[Call] = []

    @torch.no_grad()
    def replay(self) -> None:
        """Repeat the operations in the same memory, drawing afresh."""
        for func, args, kwargs, result in self.tape:
            with tensor.device().drawing() if is_drawing(func, kwargs) else nullcontext():
                again = func(*args, **kwargs)
            for place, value in zip(tree_leaves(result), tree_leaves(again), strict=True):
                if isinstance(place, Tensor) and place is not value and place.data_ptr() != value.data_ptr():
                    place.copy_(value)


class Recording:
    """Take down what is done inside; broken off, it leaves generator and stream as torch.cuda.graph leaves them."""

    def __init__(self, graph: Graph, pool: Any = None, stream: Any = None) -> None:
        self._graph, self._stream = graph, stream

    def __enter__(self) -> None:
        gpu = tensor.device()
        gpu.recordings += 1
        gpu.tape = self._graph.tape
        _streams.append(self._stream)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: Any) -> None:
        gpu = tensor.device()
        gpu.tape = None
        if error is not None and "CUDA error" in str(error):
            gpu.generator_broken = True
            raise RuntimeError("CUDA error: operation failed due to a previous error during capture") from error
        _streams.pop()


class Stream:
    """One of a device that does everything at once."""

    def __init__(self, *_: Any, **__: Any) -> None: ...
    def wait_stream(self, *_: Any) -> None: ...
    def synchronize(self) -> None: ...


class Event(Stream):
    """A moment, which has come."""

    def record(self, *_: Any) -> None: ...


class Generator(torch.Generator):
    """One on the device; the CPU's draws the numbers."""

    def __new__(cls, device: Any = "cpu") -> Generator:
        return super().__new__(cls)


class _DefaultGenerator:
    """The device's default generator, as far as it is asked for by name."""

    def graphsafe_set_state(self, state: torch.Generator) -> None:
        gpu = tensor.device()
        gpu.generator_state, gpu.generator_broken = state.get_state(), False


class _Autocast(torch.autocast):
    """The device's; whose lists and the CPU's agree for convolutions and linear layers."""

    def __init__(self, device_type: str, *args: Any, **kwargs: Any) -> None:
        super().__init__("cpu" if device_type == "cuda" else device_type, *args, **kwargs)


_streams: list[Any] = [Stream()]


@contextmanager
def _on_stream(stream: Any) -> Iterator[None]:
    _streams.append(stream)
    try:
        yield
    finally:
        _streams.pop()


def _set_stream(stream: Any) -> None:
    _streams[:] = [stream]


def _set_sync_debug_mode(mode: Any) -> None:
    tensor.device().sync_debug = {"default": 0, "warn": 1, "error": 2}.get(mode, mode)


def _set_rng_state(state: Tensor, *_: Any) -> None:
    if tensor.device().generator_broken:
        raise RuntimeError("a generator that a recording has registered cannot be set")
    tensor.device().generator_state = state.clone()


def _seed(seed: int) -> None:
    tensor.device().generator_state = torch.Generator().manual_seed(seed).get_state()


_PROPERTIES = SimpleNamespace(total_memory=80 * _GIB, uuid="0", name="simulated GPU", major=9, minor=0)

_ANSWERS: dict[str, Any] = {
    "torch.cuda.is_available": lambda: True,
    "torch.cuda.device_count": lambda: 1,
    "torch.cuda.current_device": lambda: 0,
    "torch.cuda.get_device_name": lambda *_: _PROPERTIES.name,
    "torch.cuda.get_device_properties": lambda *_: _PROPERTIES,
    "torch.cuda.is_bf16_supported": lambda *_, **__: True,
    "torch.cuda.is_current_stream_capturing": lambda: tensor.device().tape is not None,
    "torch.cuda.synchronize": lambda *_: tensor.device().synchronize(),
    "torch.cuda.empty_cache": lambda: None,
    "torch.cuda.memory_allocated": lambda *_: 0,
    "torch.cuda.memory_reserved": lambda *_: 0,
    "torch.cuda.max_memory_allocated": lambda *_: 0,
    "torch.cuda.max_memory_reserved": lambda *_: 0,
    "torch.cuda.reset_peak_memory_stats": lambda *_: None,
    "torch.cuda.mem_get_info": lambda *_: (60 * _GIB, 80 * _GIB),
    "torch.cuda.manual_seed_all": _seed,
    "torch.cuda.manual_seed": _seed,
    "torch.cuda.get_rng_state": lambda *_: tensor.device().generator_state.clone(),
    "torch.cuda.set_rng_state": _set_rng_state,
    "torch.cuda.default_generators": (_DefaultGenerator(),),
    "torch.cuda.get_sync_debug_mode": lambda: tensor.device().sync_debug,
    "torch.cuda.set_sync_debug_mode": _set_sync_debug_mode,
    "torch.cuda.current_stream": lambda *_: _streams[-1],
    "torch.cuda.set_stream": _set_stream,
    "torch.cuda.Stream": Stream,
    "torch.cuda.Event": Event,
    "torch.cuda.stream": _on_stream,
    "torch.cuda.device": lambda *_: nullcontext(),
    "torch.cuda.CUDAGraph": Graph,
    "torch.cuda.graph": Recording,
    "torch.cuda.graph_pool_handle": lambda: (0, 1),
    "torch.autocast": _Autocast,
    "torch.__future__.get_overwrite_module_params_on_conversion": lambda: True,
    "torch.Generator": Generator,
    "torch.equal": lambda a, b: bool(torch._C._VariableFunctions.equal(a, b)),
}


@contextmanager
def simulated() -> Iterator[Device]:
    """Let this process have a GPU inside; yields what is known of it."""
    gpu = Device()
    tensor._device.append(gpu)
    with ExitStack() as stack:
        stack.callback(tensor._device.pop)
        stack.callback(_set_stream, _streams[0])
        _capture_stream.cache_clear()  # of another device, real or simulated
        stack.callback(_capture_stream.cache_clear)
        for name, answer in _ANSWERS.items():
            stack.enter_context(mock.patch(name, answer))
        stack.enter_context(Core())
        stack.enter_context(Asked())
        yield gpu
