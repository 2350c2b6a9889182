"""PGD against closed forms, and the state in which models are measured."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from fatbench.evaluation.attacks import is_correct, survives_pgd
from fatbench.evaluation.eval_mode import eval_mode, isolated_rng
from fatbench.evaluation.evaluator import Evaluator
from fatbench.models.classifier import Classifier
from fatbench.record.parts import Score
from fatbench.threat import L2, Ball, Linf

PIXELS, EPS = 12, 0.05


def evaluate(name: str, model: Classifier, x: Tensor, y: Tensor, ball: Ball, classes: int) -> Score:
    """The score of a model on images in [0, 1], which are rounded to 8 bits first."""
    images = (x * 255).round().to(torch.uint8)
    return Evaluator(images, y, classes, ball, batch_size=250).evaluate(name, model, lambda _: None).score


class _Linear(nn.Module):
    def __init__(self, weight: Tensor, bias: float) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(weight), bias

    def forward(self, x: Tensor) -> Tensor:
        score = x.flatten(1) @ self.weight + self.bias
        return torch.stack([score, -score], 1)


def _linear_problem() -> tuple[Classifier, Tensor, Tensor, Tensor]:
    """A linear two-class model, images well inside the box, labels, and each image's margin in the logits."""
    generator = torch.Generator().manual_seed(3)
    weight = torch.randn(PIXELS, generator=generator)
    x = 0.25 + 0.5 * torch.rand(400, 1, 3, 4, generator=generator)
    score = x.flatten(1) @ weight - 0.5 * weight.sum()
    y = (score < 0).long()
    y[:20] = 1 - y[:20]  # some are wrong from the start
    margin = torch.where(y == 0, score, -score)
    return Classifier(_Linear(weight, float(-0.5 * weight.sum())), [0.0], [1.0]), x, y, margin


@pytest.mark.parametrize(("ball", "order"), [(Linf(EPS / 2), 1), (L2(EPS), 2)])
@pytest.mark.parametrize("restarts", [1, 3])
def test_pgd_equals_the_exact_robust_accuracy_of_a_linear_model(ball: Ball, order: int, restarts: int) -> None:
    model, x, y, margin = _linear_problem()
    weight = model.net.weight.detach()  # type: ignore[union-attr, operator]
    exact = margin > ball.eps * torch.linalg.vector_norm(weight, order)  # type: ignore[arg-type]
    assert 50 < exact.sum() < 350, "the problem must separate"
    with eval_mode(model):
        found = survives_pgd(model, x, y, ball, steps=20, restarts=restarts)
    assert torch.equal(found, exact)


def test_more_steps_and_restarts_never_save_an_image() -> None:
    model, x, y, _ = _linear_problem()
    weak = survives_pgd(model, x, y, Linf(EPS), steps=1, restarts=1)
    strong = survives_pgd(model, x, y, Linf(EPS), steps=10, restarts=2)
    assert weak.sum() > strong.sum()
    assert not (strong & ~is_correct(model, x, y)).any()


def test_a_nan_logit_is_wrong() -> None:
    model, x, y, _ = _linear_problem()
    with torch.no_grad():
        model.net.weight[0] = float("nan")  # type: ignore[union-attr, operator, index]
    assert not is_correct(model, x, y).any()


def test_measuring_leaves_the_model_as_it_was() -> None:
    net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Flatten(), nn.Linear(4, 2))
    model = Classifier(net, [0.5], [0.2], "bf16").train()
    net[1].eval()  # a user's frozen batch norm stays frozen
    net[3].weight.requires_grad_(False)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    x, y = torch.rand(5, 1, 3, 4), torch.arange(5) % 2
    for name in ("clean", "pgd-3-2", "autoattack"):
        evaluate(name, model, x, y, Linf(EPS), 2)
        assert [module.training for module in net] == [True, False, True, True]
        assert model.precision == "bf16"
        assert [p.requires_grad for p in model.parameters()] == [True, True, True, True, False, True]
        assert all(p.grad is None for p in model.parameters())
        assert all(torch.equal(before[key], tensor) for key, tensor in model.state_dict().items())


@pytest.mark.parametrize("convolutions", ["ieee", "tf32"])
def test_a_users_choice_of_float32_arithmetic_is_suspended_and_given_back(convolutions: str) -> None:
    """By torch's newer names, after which it refuses to say what `allow_tf32` is."""
    cudnn: Any = torch.backends.cudnn
    before = cudnn.conv.fp32_precision, cudnn.rnn.fp32_precision
    cudnn.conv.fp32_precision, cudnn.rnn.fp32_precision = convolutions, "tf32"
    try:
        with eval_mode(Classifier(nn.Flatten(), (0.5,), (0.5,))):
            assert (cudnn.conv.fp32_precision, torch.backends.cuda.matmul.fp32_precision) == ("ieee", "ieee")
        assert (cudnn.conv.fp32_precision, cudnn.rnn.fp32_precision) == (convolutions, "tf32")
    finally:
        cudnn.conv.fp32_precision, cudnn.rnn.fp32_precision = before


def test_an_evaluation_does_not_move_the_random_generator_and_repeats_itself() -> None:
    model, x, y, _ = _linear_problem()
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    first = evaluate("pgd-2", model, x, y, Linf(EPS), 2)
    assert torch.equal(torch.rand(3), expected)
    second = evaluate("pgd-2", model, x, y, Linf(EPS), 2)
    assert first.correct == second.correct


def test_isolated_randomness_restores_every_generator_after_an_exception() -> None:
    import random

    import numpy as np

    states = random.getstate(), np.random.get_state()[1].copy(), torch.get_rng_state()  # type: ignore[union-attr]

    def draw_and_fail() -> None:
        with isolated_rng(1, torch.device("cpu")):
            random.random(), np.random.rand(), torch.rand(1)
            raise ValueError("x")

    with pytest.raises(ValueError, match="x"):
        draw_and_fail()
    assert random.getstate() == states[0]
    assert (np.random.get_state()[1] == states[1]).all()
    assert torch.equal(torch.get_rng_state(), states[2])


@pytest.fixture
def two_gpus(monkeypatch: pytest.MonkeyPatch) -> list[torch.Tensor]:
    """The states of the generators of two GPUs that this process uses."""
    states = [torch.full((16,), number, dtype=torch.uint8) for number in (1, 2)]

    def index(device: int | str | torch.device) -> int:
        return torch.device("cuda", device).index if isinstance(device, int) else torch.device(device).index or 0

    def seed_all(seed: int) -> None:
        states[:] = [torch.full((16,), seed % 200 + 50, dtype=torch.uint8) for _ in states]

    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_rng_state", lambda device="cuda": states[index(device)].clone())
    monkeypatch.setattr(
        torch.cuda, "set_rng_state", lambda state, device="cuda": states.__setitem__(index(device), state)
    )
    monkeypatch.setattr(torch.cuda, "manual_seed_all", seed_all)
    monkeypatch.setattr(torch.cuda, "_is_in_bad_fork", lambda: False)
    return states


@pytest.mark.parametrize("device", ["cpu", "cuda", "cuda:1"])
def test_isolated_randomness_restores_the_generators_of_all_gpus(two_gpus: list[torch.Tensor], device: str) -> None:
    with isolated_rng(7, torch.device(device)):
        assert [int(state[0]) for state in two_gpus] == [57, 57]
    assert [int(state[0]) for state in two_gpus] == [1, 2]


def test_isolated_randomness_does_not_begin_to_use_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise AssertionError("a GPU was asked for its state")

    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: False)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_rng_state", fail)
    with isolated_rng(7, torch.device("cpu")):
        pass
