"""What only a GPU can show: captured and compiled batches train as eager ones do, and the host never waits."""

import itertools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from fatbench import methods, runner
from fatbench.config.request import RunOptions
from fatbench.training.engine import capture
from fatbench.training.engine.capture import CapturedBatch

from . import LIMITED, Trial, make_spec, make_trial

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")]

CAPTURABLE = [name for name in methods.names() if not methods.describe(name).not_capturable]
TOLERANCE = {"fp32": 1e-5, "bf16": 1e-2}
every_precision = pytest.mark.parametrize("precision", TOLERANCE)


@pytest.fixture(autouse=True)
def exact() -> Iterator[None]:
    """The same kernels in every run, and float32 that means it."""
    backends = (torch.backends.cudnn, torch.backends.cuda.matmul)
    before = torch.backends.cudnn.deterministic, [backend.allow_tf32 for backend in backends]
    torch.backends.cudnn.deterministic = True
    for backend in backends:
        backend.allow_tf32 = False
    yield
    torch.backends.cudnn.deterministic = before[0]
    for backend, allowed in zip(backends, before[1], strict=True):
        backend.allow_tf32 = allowed


def prepared(method: str, precision: str, **flags: object) -> Trial:
    """By default without a padded stem: two runs might find different widths the fastest."""
    without = {"without": ["pad-stem"]} | flags
    return make_trial(make_spec(method, device="cuda", engine="fast", precision=precision, **without)).prepare()


def eager(method: str, precision: str, **flags: object) -> Trial:
    trial = prepared(method, precision, without=["graph", "pad-stem"], **flags)
    assert trial.training.captured is None
    return trial


@every_precision
@pytest.mark.parametrize("method", CAPTURABLE)
def test_captured_batches_train_as_eager_ones(method: str, precision: str) -> None:
    """Three batches within the budget: after its last step an eager method never hears that the step was taken."""
    trial, plain = prepared(method, precision, schedule="cyclic"), eager(method, precision, schedule="cyclic")
    assert trial.training.captured is not None
    assert trial.info is not None
    assert (trial.info.in_force["graph"], trial.info.notes) == (True, {})
    assert trial.info.capture_seconds > 0
    tolerance = TOLERANCE[precision]
    losses, drawn = trial.run(3), torch.cuda.get_rng_state()
    assert losses == pytest.approx(plain.run(3), rel=tolerance)
    assert torch.equal(drawn, torch.cuda.get_rng_state())
    assert_close(trial.state, plain.state, rtol=tolerance, atol=tolerance)


@every_precision
def test_steps_that_the_budget_cuts_off_a_captured_batch_are_taken_eagerly(precision: str) -> None:
    """Four steps: free-at makes three of a batch here and has one left over."""
    trial, tolerance = prepared("free-at", precision, **LIMITED), TOLERANCE[precision]
    assert trial.training.captured is not None
    assert_close(trial.finish(), eager("free-at", precision, **LIMITED).finish(), rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("toggle", ["channels-last", "shadow", "fold", "fused-sgd"])
def test_whatever_is_left_out_it_trains_as_eager_ones_at_a_rate_that_moves(toggle: str) -> None:
    trial = prepared("bs-trades", "bf16", **LIMITED, without=["pad-stem", toggle])
    plain = prepared("bs-trades", "bf16", **LIMITED, without=["pad-stem", "graph", toggle])
    assert_close(trial.finish(), plain.finish(), rtol=1e-2, atol=1e-2)


@pytest.mark.parametrize("method", CAPTURABLE)
def test_on_a_gpu_the_fast_engine_trains_as_the_reference(method: str) -> None:
    spec = make_spec(method, device="cuda", engine="reference", precision="fp32", batch_size=128, lr=0.0625)
    reference = make_trial(spec)
    trial = prepared(method, "fp32", batch_size=128, lr=0.0625)
    assert sum(trial.run(2)) == pytest.approx(sum(reference.run(2)), rel=5e-3)


# What cannot be captured

METHOD = """
import torch.nn.functional as F
{constant}


def mine(model, batch, ctx):
    loss = F.cross_entropy(model(batch.x), batch.y)
    yield loss * (1.0 if {condition} else 2.0)
"""


@pytest.mark.parametrize(
    ("constant", "condition", "why"),
    [
        ("", "loss.item() > 0", "it waits for the device: "),
        ('NOT_CAPTURABLE = "it asks for the time"', "True", "it asks for the time"),
    ],
)
def test_a_method_that_cannot_be_captured_is_run_and_said(
    tmp_path: Path, constant: str, condition: str, why: str
) -> None:
    (tmp_path / "mine.py").write_text(METHOD.format(constant=constant, condition=condition))
    method, flags = str(tmp_path / "mine.py"), {"hyper": [], **LIMITED}
    trial = prepared(method, "fp32", **flags)
    assert trial.info is not None
    assert trial.training.captured is None
    assert not trial.info.in_force["graph"]
    assert trial.info.notes["graph"].startswith(why)
    assert_close(trial.finish(), eager(method, "fp32", **flags).finish(), rtol=1e-5, atol=1e-5)


# Captures that fail


@pytest.mark.parametrize("call", [1, 3, 4], ids=["warm-up", "rehearsal", "capture"])
def test_a_capture_that_fails_costs_nothing_and_the_next_one_succeeds(
    call: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The device's generator draws on, streams and allocator are as before, and no memory stays behind."""
    captured = capture._recorded

    def failing(work: Callable[[], None], stream: torch.cuda.Stream) -> Callable[[], None]:
        calls = itertools.count(1)

        def faulty() -> None:
            work()
            if next(calls) == call:
                torch.zeros(1, device="cuda").item()  # in a capture this is CUDA's own error
                raise RuntimeError("planted")

        return captured(faulty, stream)

    stream = torch.cuda.current_stream()
    with monkeypatch.context() as patched:
        patched.setattr(capture, "_recorded", failing)
        trial = prepared("bs-trades", "bf16", **LIMITED)
    assert trial.training.captured is None
    assert trial.info is not None
    assert trial.info.notes["graph"]
    assert torch.cuda.current_stream() == stream
    tolerance = TOLERANCE["bf16"]
    assert_close(trial.finish(), eager("bs-trades", "bf16", **LIMITED).finish(), rtol=tolerance, atol=tolerance)
    assert prepared("bs-trades", "bf16", **LIMITED).training.captured is not None


def test_a_graph_that_trains_otherwise_is_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    replay = CapturedBatch.replay
    monkeypatch.setattr(CapturedBatch, "replay", lambda self, plan, pace: replay(self, self._plan, pace))
    trial = prepared("fgsm-rs", "bf16")
    assert trial.training.captured is None
    assert trial.info is not None
    assert trial.info.notes["graph"].startswith("captured and eager batches diverge: ")


# The host


@contextmanager
def waiting_forbidden() -> Iterator[None]:
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.parametrize("budget", [{"epochs": 5}, {"time_budget": "60s"}], ids=["steps", "seconds"])
@pytest.mark.parametrize("without", [[], ["graph"]], ids=["captured", "eager"])
@pytest.mark.parametrize("method", CAPTURABLE)
def test_the_host_never_waits_for_the_device(method: str, without: list[str], budget: dict[str, object]) -> None:
    trial = prepared(method, "bf16", without=["pad-stem", *without], **budget)
    trial.run(2)
    with waiting_forbidden():
        for _ in range(5):
            trial.training.step_through_batch()
    assert trial.training.throttle is not None
    assert trial.training.throttle.in_flight == 2


def colours(folder: Path) -> str:
    random = np.random.default_rng(0)
    x, y = random.integers(0, 256, (4096, 32, 32, 3), dtype=np.uint8), np.arange(4096) % 10
    np.savez(folder / "colours.npz", x_train=x, y_train=y, x_test=x[:64], y_test=y[:64])
    return str(folder / "colours.npz")


@pytest.mark.parametrize("without", [[], ["graph"]], ids=["captured", "eager"])
def test_a_budget_of_time_is_overrun_by_less_than_a_step(tmp_path: Path, without: list[str]) -> None:
    flags = {"dataset": colours(tmp_path), "model": "resnet18", "eps": "8/255", "batch_size": 256, "without": without}
    spec = make_spec("pgd-at", device="cuda", engine="fast", hyper=["steps=20"], time_budget="3s", **flags)
    record = runner.run(spec, RunOptions(output=tmp_path, calibration_seconds=0.0))
    step = record.timing.train / record.steps
    early = 3  # what is in flight is estimated by the mean so far, which a slow start or other work on the GPU moves
    assert 3.0 - early * step < record.timing.train < 3.0 + 1.2 * step


@pytest.mark.slow
@every_precision
@pytest.mark.parametrize("method", ["bs-trades", "free-at"])
def test_compiled_batches_train_as_eager_ones(method: str, precision: str) -> None:
    """Compiled code rounds otherwise, and signs of small gradients follow: losses are compared, not pixels."""
    flags = {"batch_size": 128, "lr": 0.0625}
    trial = prepared(method, precision, compile=True, **flags)
    assert trial.training.captured is not None
    assert trial.info is not None
    assert trial.info.compile_seconds > 0
    assert sum(trial.run(2)) == pytest.approx(sum(eager(method, precision, **flags).run(2)), rel=1e-2)


def test_a_captured_run_is_recorded_as_one(tmp_path: Path) -> None:
    spec = make_spec("free-at", device="cuda", engine="fast", precision="bf16")
    record = runner.run(spec, RunOptions(output=tmp_path, calibration_seconds=0.0))
    assert record.status == "finished"
    assert record.engine is not None
    assert record.engine.in_force["graph"]
    assert record.engine.in_force["cudnn-benchmark"]
    assert record.steps == 5 * (1200 // 32)
