"""The adapter says what the library says, and leaves the process as it was."""

import sys

import pyautoattack
import pytest
import torch
from torch import Tensor, nn

from fatbench.evaluation.autoattack import parts_for, run_autoattack
from fatbench.evaluation.measuring import isolated_randomness, measuring
from fatbench.evaluation.scores import Exam
from fatbench.models.classifier import Classifier
from fatbench.record import Score
from fatbench.threat import L2, Ball, Linf


def sit(name: str, model: Classifier, x: Tensor, y: Tensor, ball: Ball, classes: int) -> Score:
    """The score of a model on images in [0, 1], which are rounded to 8 bits first."""
    images = (x * 255).round().to(torch.uint8)
    return Exam(images, y, classes, ball, batch_size=250).sit(name, model, lambda _: None).score


def _fitted(classes: int, images: int = 10) -> tuple[Classifier, Tensor, Tensor]:
    """A small network fitted to random images, so that some stand and some fall at a small eps."""
    torch.manual_seed(1)
    x, y = torch.rand(images, 1, 5, 5), torch.arange(images) % classes
    net = nn.Sequential(nn.Conv2d(1, 6, 3), nn.Tanh(), nn.Flatten(), nn.Linear(54, classes))
    model = Classifier(net, [0.5], [0.3])
    optimizer = torch.optim.Adam(model.parameters(), 0.02)
    for _ in range(60):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x), y).backward()
        optimizer.step()
    optimizer.zero_grad()
    return model, x, y


def test_verdicts_are_the_standard_evaluations_bit_for_bit() -> None:
    model, x, y = _fitted(10)
    with measuring(model), isolated_randomness(0, x.device):
        stock = pyautoattack.AutoAttack(model, norm="Linf", eps=0.2, seed=0, device="cpu")
        _, predicted = stock.run_standard_evaluation(x, y, batch_size=5)
        ours = run_autoattack(model, x, y, Linf(0.2), num_classes=10, seed=0, batch_size=5, watch=lambda *_: None)
    assert torch.equal(ours.standing, predicted.eq(y))
    assert ours.attack["version"] == "standard"
    assert 0 < ours.standing.sum() < len(x), "the test must have both verdicts"
    assert list(ours.score.survivors) == ["apgd-ce", "apgd-t", "fab-t", "square"]
    assert ours.score.survivors["square"] == ours.standing.sum()


@pytest.mark.parametrize(
    ("classes", "version"),
    [(2, "custom(2 classes)"), (3, "custom(3 classes)"), (5, "standard(4 targets)")],
)
def test_few_classes_work_and_are_labelled(classes: int, version: str) -> None:
    model, x, y = _fitted(classes, images=5)
    score = sit("autoattack", model, x, y, Linf(0.02), classes)
    assert score.attack["version"] == version
    assert (score.correct > 0, score.total) == (True, 5)  # every part had somebody to attack
    assert list(score.survivors) == list(parts_for(classes)[0])
    assert not score.warnings


def test_l2_and_a_model_that_is_always_wrong() -> None:
    model, x, y = _fitted(4, images=6)
    score = sit("autoattack", model, x, (y + 1) % 4, L2(0.1), 4)
    assert (score.correct, score.total) == (0, 6)
    assert score.attack["norm"] == "l2"


def test_the_librarys_warnings_are_kept_and_the_debugger_survives() -> None:
    class Softmax(nn.Module):
        def __init__(self, inner: nn.Module) -> None:
            super().__init__()
            self.inner = inner

        def forward(self, x: Tensor) -> Tensor:
            return self.inner(x).softmax(1)

    model, x, y = _fitted(4, images=6)
    model.net = Softmax(model.net)

    def tracer(*_: object) -> None:
        return None

    before = sys.gettrace()
    sys.settrace(tracer)
    try:
        score = sit("autoattack", model, x, y, Linf(0.4), 4)
        assert sys.gettrace() is tracer
    finally:
        sys.settrace(before)
    assert any("probability distribution" in warning for warning in score.warnings)
