"""The adapter says what the library says, and leaves the process as it was."""

import logging
import random
import sys

import numpy as np
import pyautoattack
import pytest
import torch
from torch import Tensor, nn

from benchmarks.shortened import shortened
from fatbench.errors import InvalidRunError
from fatbench.evaluation.autoattack import parts_for
from fatbench.evaluation.eval_mode import eval_mode, isolated_rng
from fatbench.evaluation.evaluator import Evaluator
from fatbench.record.parts import Score
from fatbench.threat import L2, Ball, Linf
from tests.evaluation.autoattack.subjects import Subject, fitted

SETTINGS = [
    pytest.param(Linf(0.2), 0.03, id="linf"),
    pytest.param(L2(1.0), 0.03, id="l2"),
    pytest.param(Linf(0.2), 1.0, id="linf, all iterations", marks=pytest.mark.slow),
    pytest.param(L2(1.0), 1.0, id="l2, all iterations", marks=pytest.mark.slow),
]


def evaluator(subject: Subject) -> Evaluator:
    """The same images, rounded to 8 bits."""
    return Evaluator(
        (subject.x * 255).round().to(torch.uint8), subject.y, subject.classes, subject.ball, batch_size=250
    )


def score(subject: Subject) -> Score:
    return evaluator(subject).evaluate("autoattack", subject.model, lambda _: None).score


def stock_broken_by(subject: Subject, batch_size: int) -> Tensor:
    """The library's own evaluation of the first one, two, ... attacks: what falls with one more, that one broke."""
    norm = type(subject.ball).__name__
    with eval_mode(subject.model), isolated_rng(0, subject.x.device):
        clean = subject.model(subject.x).argmax(1).eq(subject.y)
        broken_by = torch.where(clean, 0, 1)
        for last in range(1, 5):
            stock = pyautoattack.AutoAttack(subject.model, norm=norm, eps=subject.ball.eps, seed=0, device="cpu")
            assert stock.attacks_to_run is not None
            stock.attacks_to_run = stock.attacks_to_run[:last]
            _, predicted = stock.run_standard_evaluation(subject.x, subject.y, batch_size=batch_size)
            broken_by[(broken_by == 0) & predicted.ne(subject.y)] = last + 1
    return broken_by


@pytest.mark.parametrize(("ball", "share"), SETTINGS)
def test_every_image_is_broken_by_what_the_standard_evaluation_breaks_it_with(
    digits: Subject, ball: Ball, share: float
) -> None:
    subject = digits._replace(ball=ball)
    with shortened(share):
        ours, stock = subject.evaluate(batch_size=16), stock_broken_by(subject, batch_size=16)
    assert torch.equal(ours.broken_by, stock.to(torch.int8))
    assert ours.attack == {"version": "standard", "implementation": f"pyautoattack {pyautoattack.__version__}"}
    assert 0 < ours.standing.sum() < len(stock) - 1, "the test must have both verdicts"
    assert list(ours.score.survivors) == list(ours.part_seconds) == ["apgd-ce", "apgd-t", "fab-t", "square"]


@pytest.mark.parametrize(
    ("classes", "version"), [(2, "custom(2 classes)"), (3, "custom(3 classes)"), (5, "standard(4 targets)")]
)
@pytest.mark.usefixtures("short")
def test_few_classes_work_and_are_labelled(classes: int, version: str) -> None:
    found = score(fitted(classes, images=5, ball=Linf(0.02)))
    assert found.attack["version"] == version
    assert (found.correct > 0, found.total) == (True, 5)  # every part had somebody to attack
    assert list(found.survivors) == list(parts_for(classes)[0])
    assert not found.warnings


@pytest.mark.usefixtures("short")
def test_a_model_that_is_always_wrong() -> None:
    subject = fitted(4, images=6, ball=L2(0.1))
    found = score(subject._replace(y=(subject.y + 1) % 4))
    assert (found.correct, found.total) == (0, 6)
    assert found.attack["norm"] == "l2"


class Softmax(nn.Module):
    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(x).softmax(1)


@pytest.mark.usefixtures("short")
def test_the_librarys_warnings_are_kept_each_kind_once_and_the_debugger_survives() -> None:
    subject = fitted(4, images=6, ball=Linf(0.4))
    subject.model.net = Softmax(subject.model.net)

    def tracer(*_: object) -> None:
        return None

    before = sys.gettrace()
    sys.settrace(tracer)
    try:
        found = score(subject)
        assert sys.gettrace() is tracer
    finally:
        sys.settrace(before)
    assert sum("probability distribution" in warning for warning in found.warnings) == 1


@pytest.mark.usefixtures("short")
def test_a_forward_that_optimises_is_warned_of_and_the_next_model_is_not() -> None:
    class Optimising(nn.Module):
        def __init__(self, inner: nn.Module) -> None:
            super().__init__()
            self.inner = inner

        def forward(self, x: Tensor) -> Tensor:
            with torch.enable_grad():
                leaf = x.detach().clone().requires_grad_()
                torch.autograd.grad(leaf.square().sum(), leaf)
            return self.inner(x)

    subject = fitted(4, images=6)
    plain, subject.model.net = subject.model.net, Optimising(subject.model.net)
    assert any("dynamic" in warning for warning in score(subject).warnings)
    subject.model.net = plain
    assert not any("dynamic" in warning for warning in score(subject).warnings)


@pytest.mark.usefixtures("short")
def test_an_exam_leaves_process_and_model_as_they_were(digits: Subject) -> None:
    model, logger = digits.model.train(), logging.getLogger("auto-attack")
    frozen = next(model.parameters()).requires_grad_(False)
    rng_state = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist()  # type: ignore[union-attr]
    settings = logger.handlers[:], logger.propagate, logger.disabled, logger.level, sys.gettrace()
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    try:
        score(digits._replace(x=digits.x[:6], y=digits.y[:6]))
        assert all(module.training for module in model.modules())
        assert [parameter.requires_grad for parameter in model.parameters()].count(False) == 1
        assert all(parameter.grad is None for parameter in model.parameters())
        assert all(torch.equal(tensor, state[name]) for name, tensor in model.state_dict().items())
        assert torch.equal(torch.get_rng_state(), rng_state[0])
        assert (random.getstate(), np.random.get_state()[1].tolist()) == rng_state[1:]  # type: ignore[union-attr]
        now = logger.handlers[:], logger.propagate, logger.disabled, logger.level, sys.gettrace()
        assert now == settings
    finally:
        frozen.requires_grad_(True)


def test_images_outside_the_box_are_refused(digits: Subject) -> None:
    with pytest.raises(InvalidRunError, match=r"the images span \[0, 2\], expected \[0, 1\]"):
        digits._replace(x=digits.x * 2).evaluate()


def test_a_break_outside_the_ball_is_refused(digits: Subject, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pyautoattack.autoattack.APGDAttack.perturb", lambda _, x, y: 1 - x)
    with pytest.raises(InvalidRunError, match="more than eps"):
        digits.evaluate()


def test_the_model_is_looked_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    monkeypatch.setattr("pyautoattack.checks.check_range_output", lambda *_, **__: seen.append(1))
    with shortened(0.01):
        fitted(4, images=6).evaluate(batch_size=2)
    assert len(seen) == 1
