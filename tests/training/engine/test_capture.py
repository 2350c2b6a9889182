"""A batch that is recorded and replayed trains as one that is run, and recording it leaves no trace."""

import copy
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import get_args

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from fatbench import methods
from fatbench.ops import evaluating
from fatbench.spec import RunSpec, Toggle
from fatbench.training import preparation
from fatbench.training.engine import capture
from fatbench.training.engine.capture import CapturedBatch, undone
from fatbench.training.engine.fast_model import FastModel
from fatbench.training.loop import Training

from . import LIMITED, Trial, make_spec, make_trial
from .tape import record

CAPTURABLE = [name for name in methods.names() if not methods.describe(name).not_capturable]


@pytest.fixture
def graphs_are_tapes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let `prepare` capture on a CPU: the search for obstacles takes it for a GPU."""
    obstacle, on_gpu = preparation._obstacle, SimpleNamespace(device=torch.device("cuda"))

    def obstacle_on_gpu(training: Training, spec: RunSpec) -> str:
        seen = copy.copy(training)
        seen.ctx = replace(training.ctx, step=on_gpu)  # type: ignore[arg-type]
        return obstacle(seen, spec)

    monkeypatch.setattr(capture, "record_cuda_graph", record)
    monkeypatch.setattr(preparation, "_obstacle", obstacle_on_gpu)


def captured(trial: Trial) -> Trial:
    training = trial.training
    with undone(training.state):
        training.captured = CapturedBatch(
            training.work, training.loader.plan(0), trial.updates, changed=training.state, record=record
        )
    training.optimizer.zero_grad()
    return trial


def assert_same(mine: dict[str, Tensor], theirs: dict[str, Tensor]) -> None:
    assert_close(mine, theirs, rtol=0, atol=0)


def assert_same_end(mine: Trial, theirs: Trial) -> None:
    """A method's buffers left out: after the last step of all, only a replay goes on to what a method does then."""
    ends = [trial.finish() for trial in (mine, theirs)]
    assert_same(*({key: value for key, value in end.items() if not key.startswith("buffer")} for end in ends))


# Replayed equals run


@pytest.mark.parametrize("name", CAPTURABLE)
def test_replayed_batches_train_as_batches_that_are_run(name: str) -> None:
    """Four steps: a method that makes three of a batch has one left over, which is run."""
    spec = make_spec(name, engine="fast", precision="bf16", **LIMITED)
    run, replayed = make_trial(spec), captured(make_trial(spec))
    assert_same_end(replayed, run)
    assert run.training.steps == 4


@pytest.mark.usefixtures("graphs_are_tapes")
@pytest.mark.parametrize("toggle", get_args(Toggle))
def test_whatever_is_left_out_replayed_batches_train_as_batches_that_are_run(toggle: str) -> None:
    spec = make_spec("bs-trades", engine="fast", precision="bf16", without=[toggle], **LIMITED)
    assert_same_end(make_trial(spec).prepare(), make_trial(spec))


def test_every_replayed_step_has_its_own_progress_and_rate() -> None:
    spec = make_spec("free-at", engine="fast", limit_train=416, epochs=1, schedule="cyclic")  # 13 steps

    def seen(trial: Trial) -> list[tuple[float, float]]:
        found = []
        (group,) = trial.training.optimizer.param_groups
        note = lambda *_: found.append((float(trial.training.ctx.progress), float(group["lr"])))  # noqa: E731
        trial.training.optimizer.register_step_pre_hook(note)
        trial.finish()
        return found

    replayed = make_trial(spec)
    training = replayed.training
    training.captured = CapturedBatch(
        training.work, training.loader.plan(0), 3, changed=training.state, record=lambda work, _: work
    )
    expected = [(step / 13, 0.125 * (1 - abs(2 * step / 13 - 1))) for step in range(13)]
    assert_close(torch.tensor(seen(make_trial(spec))), torch.tensor(expected))
    assert_close(torch.tensor(seen(replayed)), torch.tensor(expected))


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_between_replays_the_model_answers_by_the_weights_as_they_are(precision: str) -> None:
    trial = captured(make_trial(make_spec("standard", engine="fast", precision=precision)))
    x = trial.bench.loader.batch(0).x
    for _ in range(3):
        trial.training.step_through_batch()
        anew = FastModel(copy.deepcopy(trial.bench.model))
        with evaluating(trial.training.model), evaluating(anew), torch.no_grad():
            assert torch.equal(trial.training.model(x), anew(x))


METHOD = """
import torch
import torch.nn.functional as F
from fatbench.ops import evaluating


def mine(model, batch, ctx):
    with evaluating(model), torch.no_grad():
        before = model(batch.x)
    {line}
    yield F.cross_entropy(model(batch.x), batch.y) + (model(batch.x) - before).square().mean()
    with evaluating(model), torch.no_grad():
        ctx.buffer("logits", like=before).copy_(model(batch.x))
"""


@pytest.fixture
def own(tmp_path: Path) -> Callable[[str], str]:
    def write(line: str = "pass") -> str:
        (tmp_path / "mine.py").write_text(METHOD.format(line=line))
        return str(tmp_path / "mine.py")

    return write


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_method_may_use_the_model_after_its_last_step(own: Callable[[str], str], precision: str) -> None:
    """Then copies of the weights are fresh when a batch ends, and nothing is stale when the next one begins."""
    spec = make_spec(own(), hyper=[], engine="fast", precision=precision, **LIMITED)
    assert_same_end(captured(make_trial(spec)), make_trial(spec))


@pytest.mark.usefixtures("graphs_are_tapes")
def test_what_waits_for_the_device_is_run_and_said(own: Callable[[str], str]) -> None:
    spec = make_spec(own("before = before * (before.sum().item() != 0)"), hyper=[], engine="fast", **LIMITED)
    trial = make_trial(spec).prepare()
    assert trial.info is not None
    assert trial.training.captured is None
    assert not trial.info.in_force["graph"]
    assert trial.info.notes["graph"] == "it waits for the device: a graph cannot hold what waits for the device"
    assert_same_end(trial, make_trial(spec))


REPLACED = "ctx.buffers['mean'] = 0.5 * ctx.buffer('mean', like=before) + before; before = ctx.buffers['mean']"
REPLACING = {"a method's buffer": (REPLACED, "small-cnn"), "a network's buffer": ("pass", "{folder}/net.py:Net")}
NET = """
from torch import nn
import torch


class Net(nn.Module):
    def __init__(self, num_classes):
        super().__init__()
        self.linear = nn.Linear(64, num_classes)
        self.register_buffer("mean", torch.zeros(64))

    def forward(self, x):
        x = x.flatten(1)
        if self.training:
            self.mean = 0.5 * self.mean + x.detach().mean(0)
        return self.linear(x - self.mean)
"""


@pytest.mark.usefixtures("graphs_are_tapes")
@pytest.mark.parametrize("what", REPLACING)
def test_a_tensor_that_is_replaced_and_not_changed_in_place_is_no_trap(
    what: str, own: Callable[[str], str], tmp_path: Path
) -> None:
    """A graph would read and write where nobody looks any more."""
    line, model = REPLACING[what]
    (tmp_path / "net.py").write_text(NET)
    spec = make_spec(own(line), hyper=[], engine="fast", model=model.format(folder=tmp_path), **LIMITED)
    trial = make_trial(spec).prepare()
    assert trial.info is not None
    assert "is replaced in every batch, not changed in place" in trial.info.notes.get("graph", "nothing said")
    assert_same_end(trial, make_trial(spec))


# No trace


@pytest.mark.usefixtures("graphs_are_tapes")
@pytest.mark.parametrize(
    ("name", "graph"), [*((name, True) for name in methods.names()), ("bs-trades", False), ("free-at", False)]
)
def test_a_prepared_training_begins_as_one_that_is_not(name: str, graph: bool) -> None:
    spec = make_spec(name, engine="fast", without=[] if graph else ["graph"])
    cold, warm = make_trial(spec), make_trial(spec)
    before = torch.get_rng_state()
    warm.prepare()
    assert torch.equal(torch.get_rng_state(), before)
    assert (warm.training.captured is not None) == (graph and not warm.bench.method.description.not_capturable)
    assert all(parameter.grad is None for parameter in warm.bench.model.parameters())
    assert (warm.training.steps, warm.training.batches, float(warm.training.loss_sum)) == (0, 0, 0.0)
    assert warm.run(2) == cold.run(2)
    assert_same(warm.state, cold.state)


@pytest.mark.parametrize("begun", [False, True], ids=["new", "begun"])
def test_what_is_undone_is_as_before(begun: bool) -> None:
    trial = make_trial(make_spec("free-at", engine="fast", precision="bf16"))
    training = trial.training
    training.model(training.loader.batch(0).x)  # weights find their memory format
    if begun:
        trial.run(1)
    places = [tensor.data_ptr() for tensor in training.state().values()]
    before = [tensor.clone() for tensor in training.state().values()]
    with undone(training.state):
        training.work(training.loader.plan(3), torch.full((3, 2), 0.5))
        training.ctx.buffer("late", torch.ones(2)).add_(1)
        known = [tensor for tensor in training.state().values() if tensor.data_ptr() in places]
        moved = [not torch.equal(now, was) for now, was in zip(known, before, strict=True)]
        assert sum(moved) > len(moved) / 2
    after = list(training.state().values())
    known = [tensor for tensor in after if tensor.data_ptr() in places]
    assert [tensor.data_ptr() for tensor in known] == places
    assert_close(known, before, rtol=0, atol=0)
    new = [tensor for tensor in after if tensor.data_ptr() not in places]
    assert new  # the late buffer, and momentum where nothing had begun
    assert all(not tensor.any() for tensor in new)


def test_the_allocators_functions_that_a_failed_capture_needs_are_there() -> None:
    """They are torch's own, private ones: `_close_pool` does without where they are gone, silently."""
    assert hasattr(torch._C, "_cuda_endAllocateToPool")
    assert hasattr(torch._C, "_cuda_releasePool")
