"""Catastrophic overfitting: told from its probes, and what a run makes of it."""

from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from torch.nn import functional

from fatbench.record import load
from fatbench.record.parts import OVERFITTING, Event, Probe, Score
from fatbench.runner.early_stopping import OverfittingDetector
from tests.runner.test_resume import PER_EPOCH, make_spec, scripted
from tests.runner.test_runner import run


def _probe(epoch: int, fgsm: int, pgd: int) -> Probe:
    scores = {"fgsm": Score(correct=fgsm, total=100), "pgd-10": Score(correct=pgd, total=100)}
    return Probe(epoch=epoch, step=10 * epoch, train_seconds=2.0 * epoch, lr=0.1, loss=1.0, scores=scores)


def _events(*accuracies: tuple[int, int]) -> list[Event]:
    overfitting_detector = OverfittingDetector()
    for epoch, (fgsm, pgd) in enumerate(accuracies, start=1):
        overfitting_detector.update(_probe(epoch, fgsm, pgd))
    return overfitting_detector.events


@pytest.mark.parametrize(
    "history",
    [
        [(30, 25), (45, 38), (50, 42)],  # learns
        [(50, 45), (35, 25), (52, 46)],  # both fall: an unsteady rate
        [(50, 45), (60, 30)],  # by 15 points, not more
        [(50, 45), (39, 29)],  # by 16, but FGSM by 11 of them
    ],
)
def test_healthy_histories_raise_no_event(history: list[tuple[int, int]]) -> None:
    assert _events(*history) == []


@pytest.mark.parametrize("after", [(40, 2), (45, 21), (60, 10)])
def test_a_collapse_is_one_whatever_fgsm_does_within_bounds(after: tuple[int, int]) -> None:
    assert [event.epoch for event in _events((50, 40), after)] == [2]


def test_a_collapsed_model_that_wavers_is_told_once() -> None:
    assert [event.epoch for event in _events((50, 45), (70, 10), (55, 25), (70, 5))] == [2]


def test_no_committed_run_would_set_it_off() -> None:
    """Eight methods, three seeds each, at the usual setting."""
    for path in (Path(__file__).parents[2] / "results").glob("*.json"):
        record = load(path)
        overfitting_detector = OverfittingDetector()
        assert not any(overfitting_detector.update(probe) for probe in record.history), path.name


def test_a_collapse_is_told_once_with_its_epoch_and_seconds() -> None:
    (event,) = _events((40, 35), (50, 45), (75, 20), (95, 0), (97, 1))
    assert (event.kind, event.epoch, event.step, event.train_seconds) == (OVERFITTING, 3, 30, 6.0)
    assert event.detail == "pgd-10 fell from 45.0% to 20.0% of 100 validation images, fgsm stands at 75.0%"


def test_a_model_that_recovers_and_collapses_again_is_told_twice() -> None:
    assert [event.epoch for event in _events((50, 45), (90, 5), (55, 44), (90, 5))] == [2, 4]


# In runs whose probes come out as given


def test_a_collapsed_run_goes_on_to_its_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scripted(monkeypatch, fgsm=[50, 60, 90, 95], pgd=[40, 45, 5, 4])
    record = run(make_spec("fgsm", epochs=4, evaluate=["clean"]), output=tmp_path)
    assert [(event.kind, event.epoch) for event in record.events] == [(OVERFITTING, 3)]
    assert (record.status, record.budget.stopped_by) == ("finished", "epochs")  # a result, and nobody asked to stop
    assert len(record.history) == 4


def test_stop_ends_the_run_where_it_collapsed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scripted(monkeypatch, fgsm=[50, 60, 90, 95], pgd=[40, 45, 5, 4])
    record = run(make_spec("fgsm", epochs=4, evaluate=["clean"], on_overfitting="stop"), output=tmp_path)
    (event,) = record.events
    assert (event.epoch, record.budget.stopped_by) == (3, "overfitting")
    assert record.steps == event.step == record.history[-1].step == 3 * PER_EPOCH
    assert record.selection is not None
    assert record.selection.policy == "last"


def test_restore_scores_the_last_healthy_weights_and_keeps_the_collapsed_ones_score(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scripted(monkeypatch, fgsm=[50, 60, 90], pgd=[40, 45, 5])
    flags = {"evaluate": ["clean", "pgd-3"], "schedule": "constant"}
    record = run(make_spec("fgsm", epochs=3, on_overfitting="restore", **flags), output=tmp_path)
    assert record.selection is not None
    assert (record.selection.policy, record.selection.epoch) == ("restored", 2)
    assert {"weights", "last-weights", "samples"} == record.artefacts.keys()
    for epochs, scores in ((2, record.scores), (3, record.selection.last_scores)):  # as of a run that ended there
        ended = run(make_spec("fgsm", epochs=epochs, **flags), output=tmp_path)
        assert {name: score.correct for name, score in scores.items()} == {
            name: score.correct for name, score in ended.scores.items()
        }


@pytest.mark.parametrize("method", ["fgsm-rs", "standard"])
def test_honest_runs_do_not_set_it_off(tmp_path: Path, method: str) -> None:
    record = run(make_spec(method, epochs=10, evaluate=["clean"]), output=tmp_path)
    assert record.events == []


@pytest.mark.slow
def test_plain_fgsm_at_a_large_eps_sets_it_off(tmp_path: Path) -> None:
    """The embedded digits at twice their size, where FGSM has enough pixels to overfit to its own step."""
    digits = load_digits()
    small = torch.tensor(digits.images / 16 * 255, dtype=torch.float32)[:, None]
    x = functional.interpolate(small, scale_factor=2, mode="bilinear").round().to(torch.uint8).numpy()
    y = digits.target
    np.savez(tmp_path / "large-digits.npz", x_train=x[:1300], y_train=y[:1300], x_test=x[1300:], y_test=y[1300:])
    augment = {"pad": 0, "flip": False}
    schedule = {"epochs": 20, "lr": 0.2, "schedule": "cyclic"}
    data = {"dataset": str(tmp_path / "large-digits.npz"), "limit_train": None, "batch_size": 128, "eps": "48/255"}
    record = run(make_spec("fgsm", model="small-cnn", evaluate=[], **data, **schedule, **augment), output=tmp_path)
    event = next(event for event in record.events if event.kind == OVERFITTING)
    (there,) = [probe.scores for probe in record.history if probe.step == event.step]
    best = max(probe.scores["pgd-10"].accuracy for probe in record.history if probe.step < event.step)
    assert there["pgd-10"].accuracy < best - 0.15
    assert there["fgsm"].accuracy > 0.3, "it stands what it was trained on"
    assert (record.status, record.budget.stopped_by) == ("finished", "epochs")
