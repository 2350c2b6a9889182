"""Whole runs by the fast engine, and runs that a target ends."""

from pathlib import Path

import numpy as np
import pytest
import torch

from fatbench.config.spec import RunSpec
from fatbench.record import Record, load
from fatbench.runner.early_stopping import PROBES
from fatbench.runner.setup import set_up
from tests.runner.steady import let_steps_take
from tests.runner.test_runner import make_spec, run, weights

ENGINES = ["reference", "fast"]
every_engine = pytest.mark.parametrize("engine", ENGINES)


def accuracy(record: Record, probe: int, name: str) -> float:
    return record.history[probe].scores[name].accuracy


# Targets


@every_engine
def test_a_run_ends_with_the_epoch_that_reaches_its_target(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, engine: str
) -> None:
    let_steps_take(monkeypatch, seconds=1 / 64)
    spec = make_spec("standard", epochs=12, lr=0.02, target="clean>=85%", engine=engine)
    record = run(spec, output=tmp_path)
    assert record.budget.stopped_by == "target"
    assert record.target is not None
    assert (record.target.target, record.target.reached) == ("clean>=0.85", True)
    assert record.target.train_seconds == record.history[-1].train_seconds
    epochs = len(record.history)
    assert 1 < epochs < 12
    assert [accuracy(record, probe, "clean") >= 0.85 for probe in range(epochs)] == [False] * (epochs - 1) + [True]
    assert record.steps == record.history[-1].step == epochs * (1200 // 128)
    assert record.timing.train == record.target.train_seconds == epochs * (1200 // 128) / 64  # no probe is in it
    assert (record.status, set(record.scores)) == ("finished", {"clean", "pgd-3"})
    assert load(tmp_path / f"{spec.id}.json") == record


def test_up_to_its_target_a_run_is_the_run_without_one(tmp_path: Path) -> None:
    free = run(make_spec("standard", lr=0.02, epochs=5, evaluate=[], engine="fast"), output=tmp_path)
    bound = f"clean>={accuracy(free, 2, 'clean')}"
    bounded = run(make_spec("standard", lr=0.02, epochs=5, evaluate=[], engine="fast", target=bound), output=tmp_path)
    assert 1 < len(bounded.history) <= 3
    for mine, theirs in zip(bounded.history, free.history, strict=False):
        assert mine.scores["clean"].correct == theirs.scores["clean"].correct
        assert (mine.lr, mine.loss) == (theirs.lr, theirs.loss)


@pytest.mark.parametrize(("budget", "why"), [({"epochs": 2}, "epochs"), ({"time_budget": "0.25s"}, "time")])
def test_a_target_out_of_reach_leaves_the_budget_to_end_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, budget: dict[str, object], why: str
) -> None:
    let_steps_take(monkeypatch, seconds=1 / 64)
    record = run(make_spec("fgsm", target="pgd-10>=99.9%", evaluate=[], **budget), output=tmp_path)
    assert record.budget.stopped_by == why
    assert record.target is not None
    assert (record.target.reached, record.target.train_seconds) == (False, None)


def test_a_target_is_probed_though_it_is_not_among_the_usual_probes(tmp_path: Path) -> None:
    record = run(make_spec("fgsm-rs", epochs=12, target="pgd-5>=0.4", evaluate=[]), output=tmp_path)
    assert record.budget.stopped_by == "target"
    assert all(set(probe.scores) == {*PROBES, "pgd-5"} for probe in record.history)
    assert accuracy(record, -1, "pgd-5") >= 0.4 > accuracy(record, -2, "pgd-5")


def test_without_a_target_nothing_is_said_of_one_and_the_id_is_as_ever(tmp_path: Path) -> None:
    spec = make_spec("standard", evaluate=[])
    assert run(spec, output=tmp_path).target is None
    assert make_spec("standard", evaluate=[], engine="reference").id == spec.id
    others = [{"engine": "fast"}, {"engine": "fast", "without": ["fold"]}, {"target": "clean>=0.5"}]
    assert len({make_spec("standard", evaluate=[], **flags).id for flags in others} | {spec.id}) == 4


# The fast engine


def colours(folder: Path) -> str:
    """A set of colour images whose classes are easy to tell apart."""
    random = np.random.default_rng(0)
    labels = np.arange(480) % 4
    patterns = random.integers(40, 216, (4, 8, 8, 3))
    images = (patterns[labels] + random.normal(0, 25, (480, 8, 8, 3))).clip(0, 255).astype(np.uint8)
    arrays = {"x_train": images[:400], "y_train": labels[:400], "x_test": images[400:], "y_test": labels[400:]}
    np.savez(folder / "colours.npz", **arrays)
    return str(folder / "colours.npz")


def both(tmp_path: Path, method: str, **flags: object) -> tuple[Record, Record]:
    specs = [make_spec(method, engine=engine, **flags) for engine in ENGINES]
    reference, fast = (run(spec, output=tmp_path) for spec in specs)
    assert (reference.status, fast.status) == ("finished", "finished")
    assert reference.steps == fast.steps
    assert reference.passes == fast.passes  # the method's own, whatever the engine does
    return reference, fast


@pytest.mark.parametrize(("method", "precision", "slack"), [("bs-trades", "bf16", 8), ("free-at", "fp32", 3)])
def test_a_run_on_colour_images_ends_in_the_same_scores(
    tmp_path: Path, method: str, precision: str, slack: int
) -> None:
    """In bf16 they round otherwise, each processor in its way: scores differ within two standard errors of a count."""
    flags = {"dataset": colours(tmp_path), "model": "small-cnn", "eps": "8/255", "batch_size": 64, "epochs": 3}
    reference, fast = both(tmp_path, method, pad=1, flip=True, lr=0.05, precision=precision, **flags)
    assert reference.scores["clean"].accuracy > 0.7
    for name, score in reference.scores.items():
        assert abs(fast.scores[name].correct - score.correct) <= slack  # of 80
    for mine, theirs in zip(fast.history, reference.history, strict=True):
        assert mine.lr == pytest.approx(theirs.lr)
        assert mine.loss == pytest.approx(theirs.loss, rel=0.02)


def test_the_record_says_how_steps_were_executed(tmp_path: Path) -> None:
    reference, fast = both(tmp_path, "standard", precision="bf16", limit_train=256, evaluate=[])
    assert reference.engine is not None
    assert reference.engine.model_dump() == {
        "name": "reference",
        "precision": "bf16",
        "in_force": {},
        "notes": {},
        "compile_seconds": 0.0,
        "capture_seconds": 0.0,
    }
    assert fast.engine is not None
    assert (fast.engine.name, fast.engine.precision) == ("fast", "bf16")
    assert fast.engine.in_force == {
        "channels-last": True,
        "shadow": True,
        "fold": True,
        "pad-stem": False,
        "fused-sgd": True,
        "graph": False,
        "cudnn-benchmark": False,
        "compile": False,
    }
    assert fast.engine.notes == {"graph": "CUDA graphs need a GPU"}
    assert fast.engine.compile_seconds == fast.engine.capture_seconds == 0.0


def test_a_network_that_cannot_be_frozen_is_said_and_trained(tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text(
        "from torch import nn\n"
        "def net(num_classes):\n"
        "    layers = [nn.Conv2d(1, 8, 3), nn.BatchNorm2d(8), nn.GroupNorm(2, 8), nn.ReLU(), nn.Flatten()]\n"
        "    return nn.Sequential(*layers, nn.Linear(288, num_classes))\n"
    )
    flags = {"model": f"{tmp_path / 'net.py'}:net", "engine": "fast", "limit_train": 256, "evaluate": []}
    record = run(make_spec("trades", **flags), output=tmp_path)
    assert record.engine is not None
    assert record.engine.notes["fold"] == "GroupNorm is a layer that it does not know"
    assert not record.engine.in_force["fold"]


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_weights_of_the_fast_engine_are_anyones(tmp_path: Path, precision: str) -> None:
    flags = {
        "dataset": colours(tmp_path),
        "model": "small-cnn",
        "eps": "8/255",
        "batch_size": 64,
        "evaluate": ["clean"],
    }
    record = run(make_spec("standard", engine="fast", precision=precision, lr=0.05, **flags), output=tmp_path)
    stored = weights(tmp_path, record)
    plain = set_up(make_spec("standard", **flags), data_dir=None, download=False)
    plain.model.load_state_dict(stored)
    assert all(value.is_contiguous() for value in stored.values())
    assert {value.dtype for value in stored.values()} == {torch.float32, torch.int64}
    evaluator = plain.evaluator_on(plain.dataset.x_test, plain.dataset.y_test)
    assert evaluator.evaluate("clean", plain.model, lambda _: None).score.correct == record.scores["clean"].correct


def test_a_seed_fixes_a_fast_run_and_what_is_prepared_before_does_not_matter(tmp_path: Path) -> None:
    flags = {"engine": "fast", "precision": "bf16", "limit_train": 256, "epochs": 4, "evaluate": []}
    first = run(make_spec("free-at", **flags), output=tmp_path / "a")
    torch.manual_seed(99)
    second = run(make_spec("free-at", **flags), output=tmp_path / "b")
    a, b = weights(tmp_path / "a", first), weights(tmp_path / "b", second)
    assert all(torch.equal(a[name], b[name]) for name in a)


def test_every_second_before_training_belongs_to_a_phase_and_none_of_it_to_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Making the fast model (tracing, copying weights, timing stems) is no training, nor is it for free."""
    from fatbench.runner import setup
    from fatbench.training import clock

    now = [0.0]

    class Slow(setup.FastModel):
        def __init__(self, *args: object, **options: object) -> None:
            super().__init__(*args, **options)  # type: ignore[arg-type]
            now[0] += 100.0

    monkeypatch.setattr(setup, "FastModel", Slow)
    monkeypatch.setattr(setup, "Clock", lambda device: clock.Clock(device, now=lambda: now[0]))
    record = run(make_spec("standard", engine="fast", evaluate=[]), output=tmp_path)
    assert (record.timing.warmup + record.timing.setup, record.timing.train) == (100.0, 0.0)


def test_a_time_budget_binds_the_fast_engine_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    let_steps_take(monkeypatch, seconds=1 / 64)
    record = run(make_spec("fgsm", time_budget="0.5s", engine="fast", evaluate=[]), output=tmp_path)
    assert (record.budget.stopped_by, record.timing.train, record.steps) == ("time", 0.5, 32)
    assert record.history[-1].lr < 0.1 * record.spec.training.lr  # a triangle ends at zero


def test_a_spec_of_before_the_fast_engine_means_the_reference() -> None:
    old = {key: value for key, value in make_spec("standard").model_dump().items() if key not in ("engine", "without")}
    assert RunSpec(**old).training.engine == "reference"
