"""Masked gradients are suspected, honest models are not."""

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from fatbench.evaluation.eval_result import EvalResult
from fatbench.evaluation.evaluator import Evaluator
from fatbench.evaluation.gradient_masking import Signs, look_for_signs, verdict
from fatbench.models.classifier import Classifier
from fatbench.record.parts import Masking
from fatbench.threat import Linf
from tests.runner.test_runner import make_spec, run


def _signs(images: int, **shares: float) -> Signs:
    def first(name: str) -> Tensor:
        return torch.arange(images) < shares.get(name, 0.0) * images

    return Signs(first("clean"), first("noise"), first("fgsm"), first("lost"))


def _eval_result(images: int, *parts: str, broken: dict[str, int]) -> EvalResult:
    broken_by, start = torch.zeros(images, dtype=torch.int8), 0
    for part, count in broken.items():
        broken_by[start : start + count] = parts.index(part) + 1
        start += count
    return EvalResult(parts, broken_by)


HONEST = _signs(1000, clean=0.85, noise=0.84, fgsm=0.55)


def _judged(signs: Signs = HONEST, pgd: int = 500, gradient: int = 30, square: int = 1, images: int = 1000) -> Masking:
    """The verdict where PGD breaks so many images, and AutoAttack's two kinds of attack so many more."""
    eval_results = {
        "pgd-20": _eval_result(images, "clean", "pgd-20", broken={"clean": 150, "pgd-20": pgd - 150}),
        "autoattack": _eval_result(
            images,
            "clean",
            "apgd-ce",
            "square",
            broken={"clean": 150, "apgd-ce": pgd - 150 + gradient, "square": square},
        ),
    }
    return verdict(signs, eval_results)


def test_an_honest_model_is_not_suspected() -> None:
    masking = _judged()
    assert (masking.verdict, masking.reasons) == ("none", [])
    assert masking.shares["gap"] == pytest.approx(0.031)
    assert masking.shares["square_alone"] == pytest.approx(0.001)


@pytest.mark.parametrize(
    ("masking", "reason"),
    [
        (_judged(gradient=300), "AutoAttack breaks 301 of 1000 images that pgd-20 did not"),
        (_judged(pgd=750, gradient=150), "AutoAttack breaks 151 of 1000 images that pgd-20 did not"),
        (_judged(pgd=885, gradient=114), "AutoAttack breaks 115 of 1000 images that pgd-20 did not"),
        (
            _judged(square=12),
            "Square, which uses no gradients, breaks 12 of 1000 images that the gradient attacks left",
        ),
        (
            _judged(_signs(1000, clean=0.85, noise=0.84, fgsm=0.55, lost=0.05)),
            "the gradient is zero or not finite on 50 of 850 images that are classified correctly",
        ),
        (
            _judged(_signs(1000, clean=0.85, noise=0.5, fgsm=0.8)),
            "random noise breaks 300 images that FGSM does not, FGSM 0 that noise does not",
        ),
    ],
)
def test_every_sign_is_a_reason(masking: Masking, reason: str) -> None:
    assert (masking.verdict, masking.reasons) == ("suspect", [reason])


def test_a_sign_on_few_images_may_be_chance() -> None:
    assert _judged(square=4).verdict == "none"  # AutoAttack's own alarm would ring at 3
    assert verdict(_signs(10, clean=1.0, noise=0.8, fgsm=1.0), {}).verdict == "none"


class _Saturated(nn.Module):
    """Logits so large that the softmax's gradient vanishes: PGD on the cross-entropy finds nothing to climb."""

    def __init__(self, net: nn.Module, factor: float) -> None:
        super().__init__()
        self.net, self.factor = net, factor

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.net(x) * self.factor
        return logits


def _blobs(factor: float) -> tuple[Evaluator, Classifier]:
    """Images of two shades, and a linear model that tells them apart with a margin smaller than eps."""
    torch.manual_seed(0)
    y = torch.arange(60) % 3
    x = (torch.tensor([100, 128, 156])[y][:, None, None, None] + torch.randint(-8, 8, (60, 1, 4, 4))).to(torch.uint8)
    net = nn.Sequential(nn.Flatten(), nn.Linear(16, 3))
    with torch.no_grad():
        net[1].weight.copy_(torch.tensor([-1.0, 0.0, 1.0])[:, None].expand(3, 16))  # type: ignore[union-attr,operator]
        net[1].bias.copy_(torch.tensor([8.0 - 0.9, 0.0, -8.0 - 0.9]))  # type: ignore[union-attr,operator]
    return Evaluator(x, y, 3, Linf(0.2), batch_size=60), Classifier(_Saturated(net, factor), [0.0], [1.0])


def test_a_model_with_vanishing_gradients_is_suspect_and_the_same_model_without_is_not() -> None:
    evaluator, honest = _blobs(1.0)
    _, masked = _blobs(1e4)
    found = {}
    for name, model in (("honest", honest), ("masked", masked)):
        eval_results = {one: evaluator.evaluate(one, model, lambda _: None) for one in ("pgd-10", "autoattack")}
        found[name] = verdict(look_for_signs(evaluator, model), eval_results), eval_results
    assert found["masked"][1]["pgd-10"].score.correct > found["honest"][1]["pgd-10"].score.correct, "it looks robust"
    assert found["honest"][0].verdict == "none"
    assert found["masked"][0].verdict == "suspect"
    assert any("zero or not finite" in reason for reason in found["masked"][0].reasons)


def test_looking_leaves_no_trace() -> None:
    evaluator, model = _blobs(1.0)
    model.train()
    state = torch.random.get_rng_state()
    look_for_signs(evaluator, model)
    assert model.training
    assert torch.equal(state, torch.random.get_rng_state())
    assert all(parameter.grad is None and parameter.requires_grad for parameter in model.parameters())


def test_a_run_says_what_was_found(tmp_path: Path) -> None:
    record = run(make_spec("fgsm-rs", epochs=3), output=tmp_path)
    assert record.diagnostics is not None
    assert record.diagnostics.masking is not None
    assert record.diagnostics.masking.verdict == "none"
    assert {"noise", "fgsm", "lost_gradient"} <= record.diagnostics.masking.shares.keys()
    unattacked = run(make_spec("fgsm-rs", evaluate=["clean"]), output=tmp_path)
    assert unattacked.diagnostics is not None
    assert unattacked.diagnostics.masking is None
