"""Exact resume: a training that is left off at any batch and gone on with elsewhere ends as if nothing had been."""

import hashlib
import json
import os
import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from fatbench import methods
from fatbench.cancellation import CancelToken, Interrupted
from fatbench.config.parsing import EVERY_EPOCH, CheckpointInterval, parse_interval
from fatbench.config.spec import RunSpec
from fatbench.errors import ResourceError, UsageError
from fatbench.record import Record, load, save
from fatbench.record.parts import Probe, Score
from fatbench.record.paths import CHECKPOINT, PREVIOUS_CHECKPOINT
from fatbench.runner.checkpoint import read_checkpoint, write_checkpoint
from fatbench.runner.observer import Observer
from fatbench.training.loop import TrainStatus
from tests.methods import of_every_kind
from tests.runner import test_runner
from tests.runner.steady import let_steps_take
from tests.runner.test_runner import run, weights

SMALL = {"limit_train": 288, "batch_size": 32}
PER_EPOCH = 288 // 32


def make_spec(method: str, **flags: object) -> RunSpec:
    """A run of few and small batches."""
    return test_runner.make_spec(method, **{**SMALL, **flags})


class AfterBatches(CancelToken):
    """Asks the run to leave off after so many batches."""

    def __init__(self, batches: int) -> None:
        self._left = batches
        self.polled = False

    @property  # type: ignore[override]
    def requested(self) -> bool:
        self._left -= 1
        return self._left < 0


class Remarks(Observer):
    def __init__(self) -> None:
        self.warnings: list[str] = []
        self.stages: list[str] = []

    def warning(self, text: str) -> None:
        self.warnings.append(text)

    def stage(self, name: str) -> None:
        self.stages.append(name)


def leave_off(spec: RunSpec, folder: Path, batches: int, **options: object) -> None:
    """Run until so many batches are done, then disturb what a new process would not have as it was."""
    with pytest.raises(Interrupted):
        run(spec, output=folder, cancel=AfterBatches(batches - 1), **options)
    disturb()


def disturb() -> None:
    torch.manual_seed(99)
    torch.rand(3)
    random.seed(99)
    np.random.seed(99)


def outcome(folder: Path, record: Record) -> tuple[object, ...]:
    """All of a record that is no time."""
    timeless = {"train_seconds": 0.0}
    history = [probe.model_copy(update=timeless) for probe in record.history]
    scores = {name: (score.correct, score.total, score.survivors) for name, score in record.scores.items()}
    events = [event.model_copy(update=timeless) for event in record.events]
    selection = record.selection and (record.selection.policy, record.selection.step)
    return record.status, record.steps, record.data_passes, record.passes, history, scores, events, selection


def assert_alike(a: Path, b: Path, spec: RunSpec) -> None:
    mine, theirs = (load(folder / f"{spec.id}.json") for folder in (a, b))
    assert outcome(a, mine) == outcome(b, theirs)
    assert set(mine.artefacts) == set(theirs.artefacts)
    left, right = weights(a, mine), weights(b, theirs)
    assert left.keys() == right.keys()
    assert all(torch.equal(left[name], right[name]) for name in left)


# One method of each kind of state, on the engine that most runs are trained on. The conformance kit has every method
# resume, and so does `make slow` on both engines.
CASES = [pytest.param(name, "fast", marks=of_every_kind(name)) for name in methods.names()]
CASES += [pytest.param(name, "reference", marks=[pytest.mark.slow]) for name in methods.names()]


@pytest.mark.parametrize(("method", "engine"), CASES)
def test_every_method_goes_on_bit_for_bit_from_any_batch(tmp_path: Path, method: str, engine: str) -> None:
    cheap = {"pgd-at": ["steps=2"], "trades": ["steps=2"], "mart": ["steps=2"], "free-at": ["replays=4"]}.get(
        method, []
    )
    spec = make_spec(method, epochs=2, engine=engine, hyper=cheap, evaluate=["clean"])
    run(spec, output=tmp_path / "a")
    batches = 2 * PER_EPOCH // (4 if method == "free-at" else 1)
    first = random.Random(f"{method} {engine}").randrange(1, batches - 1)
    leave_off(spec, tmp_path / "b", first)
    stopped = load(tmp_path / "b" / f"{spec.id}.json")
    assert (stopped.status, stopped.budget.stopped_by) == ("interrupted", "interrupted")
    remarks = Remarks()
    run(spec, output=tmp_path / "b", resume=True, observer=remarks)
    assert remarks.warnings[-1].startswith(f"resumes at step {first * (4 if method == 'free-at' else 1)}, after ")
    assert_alike(tmp_path / "a", tmp_path / "b", spec)
    assert not list((tmp_path / "b" / spec.id).glob("*state*"))


METHOD = """
import random
import numpy as np
import torch
import torch.nn.functional as F

def mine(model, batch, ctx):
    x, y, ids = batch
    seen = ctx.buffer("seen", like=x, rows=ctx.num_train)
    noise = torch.randn_like(x) + random.gauss(0, 1) + np.random.normal() + np.random.rand() + random.random()
    x_adv = ctx.ball.project(x + 0.1 * noise + 0.1 * seen[ids], x)
    yield F.cross_entropy(model(x_adv), y) * (1 + ctx.progress) / (1 + 0.01 * ctx.step)
    seen[ids] = x_adv - x
"""

NET = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self, num_classes):
        super().__init__()
        self.conv, self.bn, self.drop = nn.Conv2d(1, 8, 3, padding=1), nn.BatchNorm2d(8), nn.Dropout(0.2)
        self.head = nn.Linear(512, num_classes)
        self.register_buffer("average", torch.ones(8), persistent=False)

    def forward(self, x):
        maps = self.bn(self.conv(x))
        if self.training:
            self.average = 0.9 * self.average + 0.1 * maps.detach().mean((0, 2, 3)).abs()
        return self.head(self.drop(torch.relu(maps / (0.1 + self.average.view(1, -1, 1, 1)))).flatten(1))
"""


@pytest.mark.parametrize("engine", ["reference", "fast"])
def test_every_generator_and_every_hidden_buffer_goes_on(tmp_path: Path, engine: str) -> None:
    (tmp_path / "mine.py").write_text(METHOD)
    (tmp_path / "net.py").write_text(NET)
    spec = make_spec(str(tmp_path / "mine.py"), model=f"{tmp_path / 'net.py'}:Net", epochs=3, engine=engine)
    run(spec, output=tmp_path / "a")
    for batches in (5, 1, 8):  # three times, each in a process of its own as it were
        leave_off(spec, tmp_path / "b", batches, resume=True)
    assert read_checkpoint(tmp_path / "b" / spec.id / CHECKPOINT).steps == 14
    run(spec, output=tmp_path / "b", resume=True)
    assert_alike(tmp_path / "a", tmp_path / "b", spec)


def scripted(monkeypatch: pytest.MonkeyPatch, fgsm: list[int], pgd: list[int]) -> None:
    """Let probes come out so, epoch by epoch, of 100 images."""

    def probe(_bench: object, status: TrainStatus, names: tuple[str, ...]) -> Probe:
        right = {"fgsm": fgsm[status.epoch - 1], "pgd-10": pgd[status.epoch - 1]}
        scores = {name: Score(correct=right.get(name, 50), total=100) for name in names}
        return Probe(
            epoch=status.epoch, step=status.steps, train_seconds=0, lr=status.lr, loss=status.loss, scores=scores
        )

    monkeypatch.setattr("fatbench.runner.train._probe", probe)


@pytest.mark.parametrize("batches", [2 * PER_EPOCH + 3, 4 * PER_EPOCH])
def test_the_best_weights_of_before_the_interruption_are_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, batches: int
) -> None:
    scripted(monkeypatch, fgsm=[30, 40, 35, 38, 39], pgd=[20, 30, 25, 28, 29])
    spec = make_spec("fgsm", epochs=5, select="best", evaluate=["clean"])
    whole = run(spec, output=tmp_path / "a")
    assert whole.selection is not None
    assert (whole.selection.policy, whole.selection.epoch) == ("best", 2)
    leave_off(spec, tmp_path / "b", batches)
    run(spec, output=tmp_path / "b", resume=True)
    assert_alike(tmp_path / "a", tmp_path / "b", spec)


def test_overfitting_is_told_once_and_healthy_weights_of_before_are_restored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for policy in ("continue", "restore"):
        scripted(monkeypatch, fgsm=[30, 40, 42, 44], pgd=[20, 30, 5, 4])
        spec = make_spec("fgsm", epochs=4, on_overfitting=policy, evaluate=["clean"])
        whole = run(spec, output=tmp_path / "a")
        assert [(event.kind, event.epoch) for event in whole.events] == [("catastrophic-overfitting", 3)]
        leave_off(spec, tmp_path / "b", (3 if policy == "continue" else 2) * PER_EPOCH + 2)
        run(spec, output=tmp_path / "b", resume=True)
        assert_alike(tmp_path / "a", tmp_path / "b", spec)


@pytest.mark.parametrize("engine", ["reference", "fast"])
def test_a_time_budget_spans_restarts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, engine: str) -> None:
    let_steps_take(monkeypatch, seconds=0.03125)
    spec = make_spec("fgsm-rs", time_budget="1s", evaluate=[], engine=engine)
    leave_off(spec, tmp_path, 12)
    assert read_checkpoint(tmp_path / spec.id / CHECKPOINT).train_seconds == 12 / 32
    record = run(spec, output=tmp_path, resume=True)
    assert (record.budget.stopped_by, record.timing.train, record.steps) == ("time", 1.0, 32)
    assert [probe.train_seconds for probe in record.history] == [9 / 32, 18 / 32, 27 / 32, 1.0]
    assert record.history[-1].lr < 0.05 * record.spec.training.lr


def test_what_was_spent_before_the_last_state_is_in_the_timing(tmp_path: Path) -> None:
    spec = make_spec("standard", epochs=3, evaluate=[])
    leave_off(spec, tmp_path, 2 * PER_EPOCH + 1)
    before = load(tmp_path / f"{spec.id}.json").timing
    after = run(spec, output=tmp_path, resume=True).timing
    assert after.setup > before.setup > 0
    assert after.probe > before.probe > 0
    assert after.checkpoint > 0


# Damage


def truncate(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-1000])


def empty(file: Path) -> None:
    file.write_bytes(b"")


def flip_a_bit(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[-3] ^= 1
    file.write_bytes(content)


def change_the_facts(file: Path) -> None:
    file.write_bytes(file.read_bytes().replace(b"fgsm-rs", b"fgsm-rz"))


def replace_by_a_pickle(file: Path) -> None:
    torch.save({"weights": torch.ones(3)}, file)


@pytest.mark.parametrize("damage", [truncate, empty, flip_a_bit, change_the_facts, replace_by_a_pickle])
def test_a_damaged_state_falls_back_to_the_one_before_and_says_so(
    tmp_path: Path, damage: Callable[[Path], None]
) -> None:
    spec = make_spec("fgsm-rs", epochs=3, evaluate=["clean"])
    run(spec, output=tmp_path / "a")
    leave_off(spec, tmp_path / "b", 2 * PER_EPOCH + 4)
    folder = tmp_path / "b" / spec.id
    assert (read_checkpoint(folder / CHECKPOINT).steps, read_checkpoint(folder / PREVIOUS_CHECKPOINT).steps) == (
        2 * PER_EPOCH + 4,
        2 * PER_EPOCH,
    )
    damage(folder / CHECKPOINT)
    remarks = Remarks()
    run(spec, output=tmp_path / "b", resume=True, observer=remarks)
    assert "damaged" in remarks.warnings[0]
    assert remarks.warnings[0].endswith(f"the previous checkpoint is intact, at step {2 * PER_EPOCH}")
    assert_alike(tmp_path / "a", tmp_path / "b", spec)


def test_without_a_whole_state_it_starts_at_the_beginning_and_says_so(tmp_path: Path) -> None:
    spec = make_spec("fgsm-rs", epochs=2, evaluate=["clean"])
    run(spec, output=tmp_path / "a")
    leave_off(spec, tmp_path / "b", PER_EPOCH + 4)
    for name in (CHECKPOINT, PREVIOUS_CHECKPOINT):
        empty(tmp_path / "b" / spec.id / name)
    remarks = Remarks()
    run(spec, output=tmp_path / "b", resume=True, observer=remarks)
    assert "there is no other checkpoint" in remarks.warnings[0]
    assert remarks.warnings[1] == "no checkpoint to resume from: starts at the beginning"
    assert_alike(tmp_path / "a", tmp_path / "b", spec)


def test_a_state_holds_tensors_and_json_and_nothing_else(tmp_path: Path) -> None:
    spec = make_spec("free-at", epochs=2, evaluate=[])
    leave_off(spec, tmp_path, 2)
    content = (tmp_path / spec.id / CHECKPOINT).read_bytes()
    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    assert set(header["__metadata__"]) == {"facts", "sha256"}
    checkpoint = read_checkpoint(tmp_path / spec.id / CHECKPOINT)
    assert checkpoint.facts.record.spec == spec
    assert "buffer delta" in checkpoint.training
    assert any(name.endswith("momentum_buffer") for name in checkpoint.training)


# What is refused, and what is said


def test_another_spec_is_refused_and_the_fields_that_differ_are_named(tmp_path: Path) -> None:
    leave_off(make_spec("fgsm-rs", epochs=3, evaluate=[]), tmp_path, 5)
    other = make_spec("fgsm-rs", epochs=4, evaluate=["clean"])
    with pytest.raises(UsageError, match=r"differs in epochs \(3, not 4\), evaluations \({}, not {'clean': None}\)"):
        run(other, output=tmp_path, resume=True)
    assert not (tmp_path / f"{other.id}.json").exists()
    assert run(other, output=tmp_path).status == "finished"  # anew


def test_another_run_of_a_sweep_is_begun_and_said_to_be_another(tmp_path: Path) -> None:
    stored = make_spec("fgsm-rs", epochs=3, evaluate=[])
    leave_off(stored, tmp_path, 5)
    remarks = Remarks()
    other = make_spec("fgsm-rs", lr=0.1, evaluate=[])
    assert run(other, output=tmp_path, resume=True, observer=remarks).status == "finished"
    assert remarks.warnings[0].startswith(
        f"--resume: taken for another run than the interrupted {stored.id}, which differs"
    )


def test_a_run_that_may_still_be_going_on_is_no_reason_to_refuse(tmp_path: Path) -> None:
    stored = make_spec("fgsm-rs", epochs=3, evaluate=[])
    leave_off(stored, tmp_path, 5)
    path = tmp_path / f"{stored.id}.json"
    path.write_text(path.read_text().replace('"status": "interrupted"', '"status": "running"', 1))
    assert load(path).status == "running"
    assert run(make_spec("fgsm-rs", evaluate=[]), output=tmp_path, resume=True).status == "finished"


def test_a_state_in_anothers_place_is_refused(tmp_path: Path) -> None:
    mine, other = (make_spec("fgsm-rs", epochs=epochs, evaluate=[]) for epochs in (3, 4))
    for spec in (mine, other):
        leave_off(spec, tmp_path, 5)
    (tmp_path / other.id / CHECKPOINT).replace(tmp_path / mine.id / CHECKPOINT)
    with pytest.raises(
        UsageError, match=r"another spec: epochs \(4, not 3\); `fatbench run ...` without --resume starts from scratch"
    ):
        run(mine, output=tmp_path, resume=True)


def test_changed_data_and_another_torch_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    x = np.random.default_rng(0).integers(0, 256, (300, 8, 8), np.uint8)
    arrays = {"x_train": x, "y_train": np.arange(300) % 3, "x_test": x[:60], "y_test": np.arange(60) % 3}
    np.savez(tmp_path / "mine.npz", **arrays)
    spec = make_spec("standard", dataset=str(tmp_path / "mine.npz"), evaluate=["clean"], epochs=4, limit_train=128)
    leave_off(spec, tmp_path, 1)
    with monkeypatch.context() as patched:
        patched.setattr(torch, "__version__", "99.0")
        with pytest.raises(UsageError, match=r"it was trained on .* and here is .* with torch 99\.0"):
            run(spec, output=tmp_path, resume=True)
    np.savez(tmp_path / "mine.npz", **(arrays | {"x_test": x[100:160]}))
    with pytest.raises(UsageError, match="the data changed meanwhile"):
        run(spec, output=tmp_path, resume=True)


def test_without_resume_it_starts_anew_and_says_that_it_need_not(tmp_path: Path) -> None:
    spec = make_spec("fgsm-rs", epochs=2, evaluate=[])
    leave_off(spec, tmp_path, PER_EPOCH + 3)
    leave_off(spec, tmp_path, 2)  # not as far: the other state is worth more
    assert read_checkpoint(tmp_path / spec.id / CHECKPOINT).steps == PER_EPOCH + 3
    remarks = Remarks()
    record = run(spec, output=tmp_path, observer=remarks)
    assert remarks.warnings == [
        f"starts from scratch; --resume would resume at step {PER_EPOCH + 3} of an earlier process"
    ]
    assert (record.status, record.steps) == ("finished", 2 * PER_EPOCH)
    assert not list((tmp_path / spec.id).glob("*state*"))


def test_a_result_stands_while_its_replacement_is_interrupted_and_resumed(tmp_path: Path) -> None:
    spec = make_spec("standard", epochs=2, evaluate=["clean"])
    first = run(spec, output=tmp_path)
    leave_off(spec, tmp_path, 3, force=True)
    assert load(tmp_path / f"{spec.id}.json") == first
    second = run(spec, output=tmp_path, force=True, resume=True)
    assert load(tmp_path / f"{spec.id}.json") == second
    assert outcome(tmp_path, second) == outcome(tmp_path, first)
    assert sorted(file.name for file in (tmp_path / spec.id).iterdir()) == ["model.safetensors", "samples.npz"]


def test_force_does_not_go_on_with_what_an_earlier_process_has_left(tmp_path: Path) -> None:
    spec = make_spec("fgsm-rs", epochs=3, evaluate=[])
    leave_off(spec, tmp_path, 2 * PER_EPOCH + 3)
    leave_off(spec, tmp_path, 2, force=True)
    assert read_checkpoint(tmp_path / spec.id / CHECKPOINT).steps == 2
    assert not (tmp_path / spec.id / PREVIOUS_CHECKPOINT).exists()


# Weights that are there, and states that are of no use


class StopsAt(Remarks):
    """Ends the run when it comes to a stage."""

    def __init__(self, stage: str) -> None:
        super().__init__()
        self._last = stage

    def stage(self, name: str) -> None:
        super().stage(name)
        if name == self._last:
            raise KeyboardInterrupt


def stop_at(stage: str, spec: RunSpec, folder: Path, **options: object) -> None:
    with pytest.raises(KeyboardInterrupt):
        run(spec, output=folder, observer=StopsAt(stage), **options)
    disturb()


def flip_signs(file: Path) -> None:
    """Change weights as a failing disk would: nothing about the file is malformed."""
    content = bytearray(file.read_bytes())
    for place in range(len(content) - 3997, len(content), 4):
        content[place] ^= 0x80
    file.write_bytes(content)


def lose_states(folder: Path) -> None:
    for name in (CHECKPOINT, PREVIOUS_CHECKPOINT):
        (folder / name).unlink()


@pytest.mark.parametrize("damage", [truncate, empty, flip_signs, Path.unlink])
@pytest.mark.parametrize("states", ["whole", "gone"])
@pytest.mark.parametrize("file", ["model.safetensors", "last.safetensors"])
def test_damaged_weights_are_not_scored_but_trained_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: Callable[[Path], None], states: str, file: str
) -> None:
    scripted(monkeypatch, fgsm=[30, 40, 35], pgd=[20, 30, 25])
    spec = make_spec("fgsm", epochs=3, select="best", evaluate=["clean"])
    run(spec, output=tmp_path / "a")
    stop_at("evaluating clean", spec, tmp_path / "b")
    inside = tmp_path / "b" / spec.id
    damage(inside / file)
    if states == "gone":
        lose_states(inside)
    remarks = Remarks()
    run(spec, output=tmp_path / "b", observer=remarks)
    assert file in remarks.warnings[0]
    assert remarks.warnings[0].endswith(": it is trained again")
    assert [text[:12] for text in remarks.warnings[1:]] == (["resumes at s"] if states == "whole" else [])
    assert_alike(tmp_path / "a", tmp_path / "b", spec)


def test_records_hold_the_digests_of_their_weights(tmp_path: Path) -> None:
    spec = make_spec("standard", evaluate=[])
    record = run(spec, output=tmp_path)
    content = (tmp_path / record.artefacts["weights"]).read_bytes()
    assert record.digests == {"weights": hashlib.sha256(content).hexdigest()}
    unknown = record.model_copy(update={"digests": {}, "status": "interrupted"})  # as of an earlier fatbench
    save(unknown, tmp_path)
    remarks = Remarks()
    assert run(spec, output=tmp_path, observer=remarks).status == "finished"
    assert "training" not in remarks.stages


def test_a_state_that_cannot_be_gone_on_with_does_not_keep_a_new_one_from_being_saved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = make_spec("fgsm-rs", epochs=3, evaluate=[])
    with monkeypatch.context() as patched:
        patched.setattr(torch, "__version__", "99.0")
        leave_off(spec, tmp_path, 2 * PER_EPOCH + 3)
    remarks = Remarks()
    leave_off(spec, tmp_path, 4, observer=remarks)
    assert "cannot be used: it was trained on" in remarks.warnings[0]
    assert read_checkpoint(tmp_path / spec.id / CHECKPOINT).steps == 4
    assert run(spec, output=tmp_path, resume=True, observer=remarks).status == "finished"
    assert remarks.warnings[-1].startswith("resumes at step 4")


def test_a_forged_state_falls_back_to_the_one_before(tmp_path: Path) -> None:
    spec = make_spec("fgsm-rs", epochs=3, evaluate=["clean"])
    run(spec, output=tmp_path / "a")
    leave_off(spec, tmp_path / "b", 2 * PER_EPOCH + 4)
    file = tmp_path / "b" / spec.id / CHECKPOINT
    before = file.with_name(PREVIOUS_CHECKPOINT).read_bytes()
    checkpoint = read_checkpoint(file)
    checkpoint.training["generator numpy position"] = torch.tensor([-(10**9), 0])  # numpy by itself would read there
    write_checkpoint(checkpoint, file)
    file.with_name(PREVIOUS_CHECKPOINT).write_bytes(before)
    remarks = Remarks()
    run(spec, output=tmp_path / "b", resume=True, observer=remarks)
    assert remarks.warnings[0].startswith(f"cannot resume from step {2 * PER_EPOCH + 4}: ")
    assert remarks.warnings[1].startswith(f"resumes at step {2 * PER_EPOCH}, after ")
    assert_alike(tmp_path / "a", tmp_path / "b", spec)


def test_what_has_been_gone_on_from_is_not_given_up_for_a_damaged_state(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever is killed while the next state takes the place of a damaged one has lost nothing."""
    spec = make_spec("fgsm-rs", epochs=3, evaluate=[])
    leave_off(spec, tmp_path, PER_EPOCH + 4)
    inside = tmp_path / spec.id
    truncate(inside / CHECKPOINT)

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("fatbench.runner.checkpointing.write_checkpoint", killed)
    with pytest.raises(KeyboardInterrupt):
        run(spec, output=tmp_path, resume=True)
    assert read_checkpoint(inside / CHECKPOINT).steps == PER_EPOCH


# Replacements


def test_a_replacement_that_was_trained_is_resumed_with_its_evaluation(tmp_path: Path) -> None:
    spec = make_spec("fgsm-rs", evaluate=["clean", "fgsm"])
    first = run(spec, output=tmp_path)
    stop_at("evaluating fgsm", spec, tmp_path, force=True, checkpoint_every=CheckpointInterval())
    assert load(tmp_path / f"{spec.id}.json") == first
    remarks = Remarks()
    second = run(spec, output=tmp_path, force=True, resume=True, observer=remarks)
    assert not {"training", "evaluating clean"} & set(remarks.stages)
    assert outcome(tmp_path, second) == outcome(tmp_path, first)


# Being asked to leave off


class AsksWhenProbed(Remarks):
    def __init__(self, cancel: CancelToken) -> None:
        super().__init__()
        self._stop = cancel

    def probed(self, _: Probe) -> None:
        self._stop.requested = True


@pytest.mark.parametrize("early_stopping", [{"target": "clean>=1%"}, {}])
def test_a_wish_to_leave_off_is_heard_in_the_batch_that_ends_the_training(
    tmp_path: Path, early_stopping: dict[str, str]
) -> None:
    spec = make_spec("fgsm-rs", evaluate=["clean"], epochs=2 if early_stopping else 1, **early_stopping)
    cancel = CancelToken()
    with pytest.raises(Interrupted):
        run(spec, output=tmp_path, cancel=cancel, observer=AsksWhenProbed(cancel))
    record = load(tmp_path / f"{spec.id}.json")
    assert (record.status, record.scores) == ("interrupted", {})
    assert run(spec, output=tmp_path).scores.keys() == {"clean"}


def test_a_wish_to_leave_off_that_comes_while_the_weights_are_saved_is_heard(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from fatbench.runner import train

    cancel, save_weights = CancelToken(), train.save_weights

    def requested(*arguments: object) -> str:
        assert cancel.polled
        cancel.requested = True
        return save_weights(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(train, "save_weights", requested)
    spec = make_spec("fgsm-rs", evaluate=["clean"])
    with pytest.raises(Interrupted):
        run(spec, output=tmp_path, cancel=cancel, checkpoint_every=CheckpointInterval())
    assert load(tmp_path / f"{spec.id}.json").budget.stopped_by == "epochs"
    remarks = Remarks()
    run(spec, output=tmp_path, observer=remarks)
    assert "training" not in remarks.stages


def test_a_method_that_was_edited_since_the_run_was_asked_for_is_refused(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(METHOD)
    spec = make_spec(str(tmp_path / "mine.py"), evaluate=[])
    (tmp_path / "mine.py").write_text(f"{METHOD}# edited\n")
    with pytest.raises(UsageError, match=r"the source of .*mine\.py is not what it was"):
        run(spec, output=tmp_path / "results")


@pytest.mark.parametrize("make", [Path.touch, os.mkfifo])
def test_what_stands_in_the_place_of_the_artefacts_is_noticed_before_training(
    tmp_path: Path, make: Callable[[Path], None]
) -> None:
    spec = make_spec("fgsm-rs", evaluate=[])
    make(tmp_path / spec.id)
    remarks = Remarks()
    with pytest.raises(ResourceError, match=f"{spec.id} is a file, not a folder: choose another --output"):
        run(spec, output=tmp_path, observer=remarks)
    assert remarks.stages == ["setting up"]


# How often


@pytest.mark.parametrize(
    ("text", "checkpoint_every"),
    [
        ("60s", CheckpointInterval(seconds=60)),
        ("10m", CheckpointInterval(seconds=600)),
        ("1e", EVERY_EPOCH),
        ("25e", CheckpointInterval(epochs=25)),
        ("none", CheckpointInterval()),
    ],
)
def test_how_often_is_parsed(text: str, checkpoint_every: CheckpointInterval) -> None:
    assert parse_interval(text) == checkpoint_every


@pytest.mark.parametrize("text", ["", "0e", "e", "1.5e", "never", "-1s", "0s"])
def test_how_often_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"a checkpoint interval looks like 60s .or 60., 10m, 1h, 1e"):
        parse_interval(text)


@pytest.mark.parametrize(
    ("checkpoint_every", "states"),
    [(EVERY_EPOCH, 4), (CheckpointInterval(epochs=2), 2), (CheckpointInterval(seconds=1e-9), 36)],
)
def test_states_are_written_as_often_as_is_asked_for_and_off_the_clock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, checkpoint_every: CheckpointInterval, states: int
) -> None:
    from fatbench.runner import checkpointing

    written: list[int] = []
    write = checkpointing.write_checkpoint

    def counted(checkpoint: object, path: Path) -> None:
        written.append(checkpoint.steps)  # type: ignore[attr-defined]
        write(checkpoint, path)  # type: ignore[arg-type]

    monkeypatch.setattr(checkpointing, "write_checkpoint", counted)
    record = run(make_spec("standard", epochs=4, evaluate=[]), output=tmp_path, checkpoint_every=checkpoint_every)
    assert len(written) == states
    assert record.timing.checkpoint > 0
    written.clear()
    run(make_spec("standard", epochs=4, evaluate=[], seed=1), output=tmp_path, checkpoint_every=CheckpointInterval())
    assert not written
