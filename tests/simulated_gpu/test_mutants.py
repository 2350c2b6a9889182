"""Faults planted in the engine: each is caught, by the trial before a graph is trusted or by a test's comparison."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from fatbench.training import loop, preparation
from fatbench.training.engine import capture
from fatbench.training.engine.capture import CapturedBatch

from . import cuda, tensor
from .device import Device
from .training import METHOD, assert_captured_is_eager, gpu_with_a_padded_stem, trained, trial


@pytest.fixture(autouse=True)
def gpu() -> Iterator[Device]:
    with gpu_with_a_padded_stem() as found:
        yield found


# Graphs that train otherwise are not trusted


def frozen(argument: str) -> Callable[[CapturedBatch, Any, Any], None]:
    """A replay that leaves batch or rates as they were when it was recorded."""
    replay = CapturedBatch.replay

    def stale(self: CapturedBatch, plan: Any, pace: Any) -> None:
        replay(self, self._plan if argument == "plan" else plan, [(0.0, 0.0)] if argument == "pace" else pace)

    return stale


def with_the_same_noise(self: cuda.Graph) -> None:
    tensor.device().generator_state = torch.Generator().manual_seed(0).get_state()
    REPLAY(self)


def without_its_end(self: cuda.Graph) -> None:
    whole, self.tape = self.tape, self.tape[: len(self.tape) // 2]
    REPLAY(self)
    self.tape = whole


REPLAY = cuda.Graph.replay
GRAPHS: dict[str, tuple[Any, str, Any]] = {
    "the batch": (CapturedBatch, "replay", frozen("plan")),
    "the learning rate": (CapturedBatch, "replay", frozen("pace")),
    "noise": (cuda.Graph, "replay", with_the_same_noise),
    "half of the work": (cuda.Graph, "replay", without_its_end),
}


@pytest.mark.parametrize("what", GRAPHS)
def test_a_graph_that_freezes_something_is_dropped(what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(*GRAPHS[what])
    one = trial("fgsm-rs", precision="bf16")
    assert one.info is not None
    assert one.training.captured is None
    assert one.info.notes["graph"].startswith("captured and eager batches diverge: ")
    monkeypatch.undo()
    mine, eager = trained(one), trained(trial("fgsm-rs", precision="bf16", without=["graph"]))
    assert all(torch.equal(mine[name], eager[name]) for name in eager)


def test_without_the_rule_for_buffers_a_replaced_one_is_found_all_the_same(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    line = "ctx.buffers['mean'] = ctx.buffer('mean', like=x.mean(0)) * 0.5 + x.mean(0); x = x + ctx.buffers['mean']"
    (tmp_path / "mine.py").write_text(METHOD.format(line=line))
    monkeypatch.setattr(preparation, "_replaced", lambda *_: "")
    one = trial(str(tmp_path / "mine.py"), hyper=[])
    assert one.info is not None
    assert one.info.notes["graph"].startswith("captured and eager batches diverge: ")


# Comparisons find what the engine's rules are there for


LOOKING = """
import torch
import torch.nn.functional as F
from fatbench.ops import evaluating


def looking(model, batch, ctx):
    with evaluating(model), torch.no_grad():
        before = model(batch.x)
    yield F.cross_entropy(model(batch.x), batch.y) + (model(batch.x) - before).square().mean()
    with evaluating(model), torch.no_grad():
        ctx.buffer("logits", like=before).copy_(model(batch.x))
"""
MUTANTS: dict[str, tuple[Any, str, Any]] = {
    "changes by a replay stay unseen": (capture, "increment_version", lambda _: None),
    "copies of weights are renewed in some replays": (loop, "increment_version", lambda _: None),
    "learning rates are copied from pageable memory": (Tensor, "pin_memory", lambda self, *_: self),
    "the device's generator is not seeded": (torch.cuda, "manual_seed_all", lambda _: None),
}


@pytest.mark.parametrize("mutant", MUTANTS)
def test_a_mutant_of_the_engine_is_caught(
    mutant: str, gpu: Device, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "looking.py").write_text(LOOKING)
    method = str(tmp_path / "looking.py") if "some replays" in mutant else "fgsm-rs"
    flags: dict[str, Any] = {"precision": "bf16", "hyper": []}
    assert_captured_is_eager(gpu, method, **flags)
    monkeypatch.setattr(*MUTANTS[mutant])
    with pytest.raises(AssertionError):
        assert_captured_is_eager(gpu, method, **flags)
