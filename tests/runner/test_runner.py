"""Whole runs on the embedded data: what a seed fixes, what the clock counts, what a record holds."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch

from fatbench import runner
from fatbench.cancellation import CancelToken
from fatbench.config.request import Request, RunOptions
from fatbench.config.resolve import resolve
from fatbench.config.spec import RunSpec
from fatbench.errors import InvalidRunError, UsageError
from fatbench.evaluation.attacks import is_correct
from fatbench.evaluation.eval_mode import eval_mode
from fatbench.record import Record, load
from fatbench.record.parts import Probe, Score
from fatbench.report import comparison
from fatbench.report.run import Run
from fatbench.runner.early_stopping import PROBES
from fatbench.runner.observer import Observer
from fatbench.runner.setup import set_up
from fatbench.training.loop import TrainStatus

from .steady import let_steps_take


def run(
    spec: RunSpec, *, observer: Observer | None = None, cancel: CancelToken | None = None, **options: Any
) -> Record:
    return runner.run(spec, RunOptions(**{"calibration_seconds": 0.0, **options}), observer=observer, cancel=cancel)


def make_spec(method: str, seed: int = 0, **flags: object) -> RunSpec:
    evaluate = flags.pop("evaluate", ["clean", "pgd-3"])
    hyper = flags.pop("hyper", [])
    budget = {} if "time_budget" in flags else {"epochs": 1}
    request = Request([method], settings={**budget, "evaluate": evaluate, **flags}, hyper=hyper, seeds=str(seed))  # type: ignore[arg-type]
    return resolve(request, device="cpu")[0]


def weights(folder: Path, record: Record) -> dict[str, torch.Tensor]:
    return safetensors.torch.load_file(folder / record.artefacts["weights"])


def test_the_same_seed_gives_the_same_weights_and_scores_and_another_does_not(tmp_path: Path) -> None:
    spec = make_spec("bs-trades")
    first = run(spec, output=tmp_path / "a")
    torch.manual_seed(99)  # what ran before must not matter
    second = run(spec, output=tmp_path / "b")
    assert first.digests == second.digests
    assert {name: score.correct for name, score in first.scores.items()} == {
        name: score.correct for name, score in second.scores.items()
    }
    other = weights(tmp_path, run(make_spec("bs-trades", seed=1), output=tmp_path))
    assert not torch.equal(weights(tmp_path / "a", first)["net.0.weight"], other["net.0.weight"])


def test_probing_and_scoring_do_not_change_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    probed = run(make_spec("fgsm-rs"), output=tmp_path / "a")
    unseen = {name: Score(correct=0, total=1) for name in PROBES}

    def without_looking(_: object, status: TrainStatus, __: object) -> Probe:
        return Probe(epoch=status.epoch, step=status.steps, train_seconds=0.0, lr=status.lr, loss=None, scores=unseen)

    monkeypatch.setattr("fatbench.runner.train._probe", without_looking)
    unprobed = run(make_spec("fgsm-rs", evaluate=[]), output=tmp_path / "b")
    a, b = weights(tmp_path / "a", probed), weights(tmp_path / "b", unprobed)
    assert all(torch.equal(a[name], b[name]) for name in a)


def test_a_record_holds_what_was_done(tmp_path: Path) -> None:
    spec = make_spec("trades", epochs=2, hyper=["steps=2"])
    record = run(spec, output=tmp_path)
    assert load(tmp_path / f"{spec.id}.json") == record
    batches = 2 * (1200 // 128)
    assert (record.status, record.steps, record.data_passes) == ("finished", batches, 2.0)
    assert record.budget.stopped_by == "epochs"
    assert record.passes.model_dump() == {
        "forward": 5 * 128 * batches,
        "input_backward": 4 * 128 * batches,
        "weight_backward": 2 * 128 * batches,
    }
    assert [probe.epoch for probe in record.history] == [1, 2]
    assert all(set(probe.scores) == set(PROBES) for probe in record.history)
    times = [probe.train_seconds for probe in record.history]
    assert 0 < times[0] < times[1] <= record.timing.train
    assert record.timing.evaluation > 0
    assert record.environment is not None
    assert (record.environment.cpu_threads, record.environment.torch) == (1, torch.__version__)
    assert (record.scores["clean"].total, record.scores["pgd-3"].total) == (497, 497)
    assert record.scores["pgd-3"].correct <= record.scores["clean"].correct
    assert "def trades(" in record.method.source


def test_epochs_are_optimiser_steps_for_replaying_methods_too(tmp_path: Path) -> None:
    record = run(make_spec("free-at", epochs=3), output=tmp_path)
    steps = 3 * (1200 // 128)
    assert record.steps == steps  # 27: three batches of eight replays, and three replays of a fourth
    assert record.data_passes == pytest.approx(4 / (1200 // 128))
    assert record.passes.forward == steps * 128


def test_a_time_budget_counts_training_seconds_and_ends_the_schedule_at_the_deadline(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    let_steps_take(monkeypatch, seconds=0.03125)
    record = run(make_spec("fgsm", time_budget="1s"), output=tmp_path)
    assert (record.budget.stopped_by, record.timing.train, record.steps) == ("time", 1.0, 32)
    assert record.history[-1].lr < 0.05 * record.spec.training.lr  # a triangle ends at zero
    assert record.history[-1].step == record.steps


def test_a_checkpoint_reproduces_the_runs_own_score(tmp_path: Path) -> None:
    spec = make_spec("standard", epochs=3)
    record = run(spec, output=tmp_path)
    context = set_up(make_spec("standard", seed=7), data_dir=None, download=False)
    context.model.load_state_dict(weights(tmp_path, record))
    with eval_mode(context.model):
        right = is_correct(context.model, context.dataset.x_test / 255, context.dataset.y_test)
    assert int(right.sum()) == record.scores["clean"].correct


def test_bf16_trains_and_is_scored_in_float32(tmp_path: Path) -> None:
    record = run(make_spec("fgsm-rs", precision="bf16", epochs=4), output=tmp_path)
    assert record.status == "finished"
    assert record.scores["clean"].accuracy > 0.5
    assert all(tensor.dtype == torch.float32 for tensor in weights(tmp_path, record).values() if tensor.ndim)


def test_a_subset_is_labelled(tmp_path: Path) -> None:
    record = run(make_spec("standard", limit_train=300), output=tmp_path)
    assert record.data is not None
    assert (record.data.train, record.data.subset) == (300, True)


def test_methods_learn_what_they_are_for(tmp_path: Path) -> None:
    plain = run(make_spec("standard", epochs=10, evaluate=["clean", "pgd-20"]), output=tmp_path)
    robust = run(make_spec("fgsm-rs", epochs=10, evaluate=["clean", "pgd-20"]), output=tmp_path)
    assert plain.scores["clean"].accuracy > 0.95
    assert plain.scores["pgd-20"].accuracy < 0.1
    assert robust.scores["pgd-20"].accuracy > 0.25


class Listening(Observer):
    """Remembers whether a stored result was found."""

    def __init__(self) -> None:
        self.found: list[Record] = []

    def reused(self, record: Record) -> None:
        self.found.append(record)


def test_a_stored_result_is_found_and_is_not_taken_for_another_protocol_source_or_data(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    x = np.random.default_rng(0).integers(0, 256, (300, 8, 8), np.uint8)
    arrays = {"x_train": x, "y_train": np.arange(300) % 3, "x_test": x[:60], "y_test": np.arange(60) % 3}
    np.savez(tmp_path / "mine.npz", **arrays)
    spec = make_spec("standard", dataset=str(tmp_path / "mine.npz"), model="small-cnn", evaluate=["clean"])

    def found() -> bool:
        listening = Listening()
        run(spec, output=tmp_path, observer=listening)
        return bool(listening.found)

    assert [found(), found()] == [False, True]
    np.savez(tmp_path / "mine.npz", **(arrays | {"x_test": x[100:160]}))
    assert [found(), found()] == [False, True]
    monkeypatch.setattr("fatbench.runner.claim.PROTOCOL", 2)
    assert not found()


def test_an_edited_method_or_model_of_ones_own_is_another_run(tmp_path: Path) -> None:
    method, model = tmp_path / "mine.py", tmp_path / "net.py"
    source = (
        "import torch.nn.functional as F\ndef mine(model, batch, ctx): yield F.cross_entropy(model(batch.x), batch.y)"
    )
    net = "from torch import nn\ndef net(num_classes): return nn.Sequential(nn.Flatten(), nn.Linear(64, num_classes))"
    ids = []
    for loss, comment in (("", ""), (" * 2", ""), ("", "# wider")):
        method.write_text(source + loss)
        model.write_text(net + comment)
        ids.append(make_spec(str(method), model=f"{model}:net").id)
    assert len(set(ids)) == 3


def test_a_result_is_replaced_only_by_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = make_spec("standard")
    first = run(spec, output=tmp_path)
    path = tmp_path / f"{spec.id}.json"

    def interrupt(*_: object) -> None:
        assert load(path) == first  # while the second run is under way
        raise KeyboardInterrupt

    kept = weights(tmp_path, first)
    monkeypatch.setattr("fatbench.runner.score", interrupt)
    with pytest.raises(KeyboardInterrupt):
        run(spec, output=tmp_path, force=True)
    assert load(path) == first
    assert load(tmp_path / spec.id / "running.json").status == "interrupted"
    assert (tmp_path / spec.id / "running-model.safetensors").exists()
    monkeypatch.undo()
    again = run(spec, output=tmp_path, force=True)
    assert load(path) == again != first
    assert sorted(file.name for file in (tmp_path / spec.id).iterdir()) == ["model.safetensors", "samples.npz"]
    assert all(torch.equal(kept[name], tensor) for name, tensor in weights(tmp_path, again).items())


@pytest.mark.parametrize(
    ("source", "line"),
    [
        ("def mine(model, batch, ctx): yield 0.0", "mine yields a loss of type float, not a scalar tensor"),
        ("def mine(model, batch, ctx): yield batch.z", "mine.py:1: AttributeError: "),
        (
            "def mine(model, batch, ctx):\n    if 'seen' not in ctx.buffers:\n"
            "        yield model(ctx.buffer('seen', batch.x)).sum()",
            "mine yields no loss for batch 1",
        ),
        ("import sys\ndef mine(model, batch, ctx):\n    sys.exit(3)\n    yield", "mine.py:3: SystemExit: 3"),
    ],
)
def test_a_fault_of_ones_own_method_names_its_line_and_is_recorded(tmp_path: Path, source: str, line: str) -> None:
    (tmp_path / "mine.py").write_text(source)
    spec = make_spec(str(tmp_path / "mine.py"))
    with pytest.raises(InvalidRunError, match=re.escape(line)):
        run(spec, output=tmp_path)
    record = load(tmp_path / f"{spec.id}.json")
    assert (record.status, record.budget.stopped_by) == ("failed", "failed")
    assert record.error


NET = """from torch import nn
class Net(nn.Module):
    def __init__(self, num_classes):
        super().__init__()
        self.linear = nn.Linear(64, num_classes)
        self.again = self.linear
    def forward(self, x):
        """


def test_a_model_that_fails_only_in_training_names_its_line(tmp_path: Path) -> None:
    forward = "logits = self.linear(x.flatten(1))\n        return (logits, 1 / 0) if self.training else logits"
    (tmp_path / "net.py").write_text(NET + forward)
    spec = make_spec("standard", model=f"{tmp_path / 'net.py'}:Net")
    with pytest.raises(UsageError, match=r"net\.py:Net in train mode fails on .*: ZeroDivisionError: .* \(line 9\)$"):
        run(spec, output=tmp_path)
    assert not (tmp_path / f"{spec.id}.json").exists()  # it was tried before anything ran


def test_tied_weights_reach_the_checkpoint_and_a_model_may_dislike_empty_batches(tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text(NET + "return self.again(x.view(x.size(0), -1))")
    record = run(make_spec("standard", model=f"{tmp_path / 'net.py'}:Net", eps="0.9"), output=tmp_path)
    assert record.status == "finished"
    assert record.scores["pgd-3"].correct == 0  # every image has fallen: nothing is left to attack
    assert "net.again.weight" in weights(tmp_path, record)


@pytest.mark.parametrize("steps", [1, 8, 9, 10])
def test_every_timed_run_ends_with_a_probe_of_its_last_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, steps: int
) -> None:
    let_steps_take(monkeypatch, seconds=0.03125)
    record = run(make_spec("standard", time_budget=f"{steps * 0.03125}s", evaluate=[]), output=tmp_path)
    assert record.history[-1].step == record.steps == steps


@pytest.mark.parametrize(("steps", "numbers"), [(4, [1]), (9, [1]), (13, [1, 2]), (18, [1, 2])])
def test_epochs_are_numbered_by_the_steps_they_hold(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, steps: int, numbers: list[int]
) -> None:
    let_steps_take(monkeypatch, seconds=1.0)
    record = run(make_spec("standard", time_budget=f"{steps}s", evaluate=[], select="best"), output=tmp_path)
    assert [(probe.epoch, probe.step) for probe in record.history] == [
        (number, min(9 * number, steps)) for number in numbers
    ]
    assert record.selection is not None
    assert record.selection.epoch in numbers


@pytest.mark.parametrize(
    ("seconds", "steps", "said"),
    [
        (7.0, 2, "trained for 14 s where 12 s were the budget: a batch takes 7 s"),
        (5.0, 2, "trained for 10 s where 12 s were the budget: a batch takes 5 s"),
        (4.1, 3, "trained for 12.3 s where 12 s were the budget: a batch takes 4.1 s"),
        (0.45, 27, None),  # by 1.2%
        (0.125, 96, None),
    ],
)
def test_a_budget_of_time_that_is_missed_is_said_to_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seconds: float, steps: int, said: str | None
) -> None:
    let_steps_take(monkeypatch, seconds)
    record = run(make_spec("standard", time_budget="12s", evaluate=["clean"]), output=tmp_path)
    assert record.steps == steps
    assert [(event.kind, event.detail) for event in record.events] == ([("missed-budget", said)] if said else [])
    (group,) = comparison.compare([Run(record)])
    assert group.rows[0].events == ({"missed-budget": 1} if said else {})
