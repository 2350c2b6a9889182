"""Catastrophic overfitting: told from its probes, and in a real run that does it."""

from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from torch.nn import functional

from fatbench.record import Event, Probe, Record, Score, load
from fatbench.runner.overfitting import KIND, Sentinel
from tests.runner.test_runner import make_spec, run


def _probe(epoch: int, fgsm: int, pgd: int) -> Probe:
    scores = {"fgsm": Score(correct=fgsm, total=100), "pgd-10": Score(correct=pgd, total=100)}
    return Probe(epoch=epoch, step=10 * epoch, train_seconds=2.0 * epoch, lr=0.1, loss=1.0, scores=scores)


def _events(*accuracies: tuple[int, int]) -> list[Event]:
    sentinel = Sentinel()
    for epoch, (fgsm, pgd) in enumerate(accuracies, start=1):
        sentinel.look(_probe(epoch, fgsm, pgd))
    return sentinel.events


@pytest.mark.parametrize(
    "course",
    [
        [(30, 25), (45, 38), (50, 42)],  # learns
        [(50, 45), (35, 25), (52, 46)],  # both fall: an unsteady rate
        [(50, 45), (60, 30)],  # by 15 points, not more
        [(50, 45), (39, 29)],  # by 16, but FGSM by 11 of them
    ],
)
def test_healthy_courses_are_left_in_peace(course: list[tuple[int, int]]) -> None:
    assert _events(*course) == []


@pytest.mark.parametrize("after", [(40, 2), (45, 21), (60, 10)])
def test_a_collapse_is_one_whatever_fgsm_does_within_bounds(after: tuple[int, int]) -> None:
    assert [event.epoch for event in _events((50, 40), after)] == [2]


def test_a_collapsed_model_that_wavers_is_told_once() -> None:
    assert [event.epoch for event in _events((50, 45), (70, 10), (55, 25), (70, 5))] == [2]


def test_no_committed_run_would_set_it_off() -> None:
    """Eight methods, three seeds each, at the usual setting."""
    for path in (Path(__file__).parents[2] / "results").glob("*.json"):
        record = load(path)
        sentinel = Sentinel()
        assert not any(sentinel.look(probe) for probe in record.history), path.name


def test_a_collapse_is_told_once_with_its_epoch_and_seconds() -> None:
    (event,) = _events((40, 35), (50, 45), (75, 20), (95, 0), (97, 1))
    assert (event.kind, event.epoch, event.step, event.train_seconds) == (KIND, 3, 30, 6.0)
    assert event.detail == "pgd-10 fell from 45.0% to 20.0% of 100 validation images, fgsm stands at 75.0%"


def test_a_model_that_recovers_and_collapses_again_is_told_twice() -> None:
    assert [event.epoch for event in _events((50, 45), (90, 5), (55, 44), (90, 5))] == [2, 4]


@pytest.fixture(scope="module")
def large_digits(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The embedded digits at twice their size, where FGSM has enough pixels to overfit to its own step."""
    digits = load_digits()
    small = torch.tensor(digits.images / 16 * 255, dtype=torch.float32)[:, None]
    x = functional.interpolate(small, scale_factor=2, mode="bilinear").round().to(torch.uint8).numpy()
    path = tmp_path_factory.mktemp("data") / "large-digits.npz"
    y = digits.target
    np.savez(path, x_train=x[:1300], y_train=y[:1300], x_test=x[1300:], y_test=y[1300:])
    return str(path)


def _collapsing(dataset: str, folder: Path, **flags: object) -> Record:
    settings = {"eps": "48/255", "epochs": 20, "lr": 0.2, "schedule": "cyclic", "model": "small-cnn", "threads": 1}
    evaluate = ["clean", "fgsm", "pgd-10"]
    augment = {"pad": 0, "flip": False}
    return run(make_spec("fgsm", dataset=dataset, evaluate=evaluate, **settings, **augment, **flags), output=folder)


def test_plain_fgsm_at_a_large_eps_sets_it_off(large_digits: str, tmp_path: Path) -> None:
    record = _collapsing(large_digits, tmp_path)
    event = next(event for event in record.events if event.kind == KIND)
    best = max(probe.scores["pgd-10"].accuracy for probe in record.history if probe.epoch < event.epoch)
    assert record.scores["pgd-10"].accuracy < best - 0.15
    assert record.scores["fgsm"].accuracy > 0.3, "it stands what it was trained on"
    assert (record.status, record.budget.stopped_by) == ("finished", "epochs")  # a result, and nobody asked to stop


def test_stop_ends_the_run_where_it_collapsed(large_digits: str, tmp_path: Path) -> None:
    record = _collapsing(large_digits, tmp_path, on_overfitting="stop")
    (event,) = record.events
    assert record.budget.stopped_by == "overfitting"
    assert record.steps == event.step == record.history[-1].step
    assert record.selection is not None
    assert record.selection.policy == "last"


def test_restore_scores_the_last_healthy_weights_and_keeps_the_collapsed_ones_score(
    large_digits: str, tmp_path: Path
) -> None:
    record = _collapsing(large_digits, tmp_path, on_overfitting="restore")
    (event,) = record.events
    assert record.selection is not None
    assert (record.selection.policy, record.selection.epoch) == ("restored", event.epoch - 1)
    assert record.selection.last_scores["pgd-10"].accuracy < record.scores["pgd-10"].accuracy
    assert {"weights", "last-weights", "samples"} == record.artefacts.keys()


@pytest.mark.parametrize("method", ["fgsm-rs", "standard"])
def test_honest_runs_do_not_set_it_off(tmp_path: Path, method: str) -> None:
    record = run(make_spec(method, epochs=10, evaluate=["clean"]), output=tmp_path)
    assert record.events == []
