"""Trainings on the simulated GPU, and how they are compared."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

import torch
from torch import Tensor
from torch.testing import assert_close

from fatbench.ops import evaluating
from tests.training.engine import Trial, make_spec, make_trial

from .cuda import simulated
from .device import Device
from .tensor import GpuTensor

SMALL = {"limit_train": 128, "batch_size": 16, "schedule": "cyclic"}  # a rate that moves
METHOD = """
import random
import torch
import torch.nn.functional as F

calls = []


def mine(model, batch, ctx):
    x, y, ids = batch.x, batch.y, batch.ids
    {line}
    yield F.cross_entropy(model(x), y)
"""


@contextmanager
def gpu_with_a_padded_stem() -> Iterator[Device]:
    """A simulated GPU on which four channels are the fastest stem, which is not timed."""
    with simulated() as gpu, mock.patch("fatbench.runner.setup.fastest_stem", return_value=4):
        yield gpu


def trial(method: str, **flags: Any) -> Trial:
    """A training by the fast engine on the GPU in force, warmed up."""
    return make_trial(make_spec(method, device="cuda", **{"engine": "fast", **SMALL, **flags})).prepare()


def trained(one: Trial, batches: int = 3) -> dict[str, Tensor]:
    """Train on so many batches; return their losses, what the model answers after each, and the state at the end."""
    found = {}
    for number in range(batches):
        found[f"loss {number}"] = torch.tensor(one.run(1), dtype=torch.float64)
        with evaluating(one.training.model), torch.no_grad():
            found[f"logits {number}"] = on_host(one.training.model(one.training.loader.batch(0).x))
    return found | {name: on_host(value) for name, value in one.state.items()}


def on_host(tensor: Tensor) -> Tensor:
    """Look at what a tensor holds, without a wait that would count."""
    assert isinstance(tensor, GpuTensor), "it is left behind on the host"
    return tensor.held.detach().clone()


def assert_same(mine: dict[str, Tensor], theirs: dict[str, Tensor]) -> None:
    assert_close(mine, theirs, rtol=0, atol=0)


def assert_captured_is_eager(gpu: Device, method: str, **flags: Any) -> None:
    """Captured batches train exactly as eager ones, and in neither does the host wait for the device."""
    captured, eager = (
        trial(method, **flags),
        trial(method, **{**flags, "without": ["graph", *flags.get("without", [])]}),
    )
    assert captured.info is not None
    assert captured.info.notes.get("graph", "") == ""
    assert captured.training.captured is not None
    assert eager.training.captured is None
    assert_same(trained(captured), trained(eager))
    for one in (captured, eager):
        gpu.waits.clear()
        one.training.step_through_batch()
        assert not gpu.waits
