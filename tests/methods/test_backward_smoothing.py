"""The start that backward smoothing finds, under TRADES and under plain adversarial training."""

import pytest
import torch
import torch.nn.functional as F

from fatbench import methods
from fatbench.interface import Batch
from fatbench.ops import kl

from . import EPS, make_batches, make_context, smooth_net
from .test_equivalence import LinearMargin, consume

DRAWS = 40
GAMMA = 0.7


def inputs_and_logits(name, seed, **hyper):
    """What the model is shown for one batch, in order, and what it answers; the attack runs in eval mode."""
    model, seen = smooth_net(), []
    model.register_forward_hook(lambda _, inputs, logits: seen.append((inputs[0].detach().clone(), logits.detach())))
    torch.manual_seed(seed)
    next(methods.load(name, **hyper)(model, make_batches()[0], make_context("linf")))
    return seen


def test_the_first_step_nears_the_smoothed_output_and_the_second_leaves_the_clean_one():
    attacked, nearer, further = smooth_net().eval(), [], []  # as it was: the loss's forwards move batch norms
    for seed in range(DRAWS):
        (x, clean), (x1, start), _, (x2, _) = inputs_and_logits("bs-trades", seed, alpha=0.1, gamma=GAMMA)
        torch.manual_seed(seed)
        smoothed = clean + GAMMA * torch.empty_like(clean).uniform_(-1, 1)
        nearer.append(kl(smoothed, clean).mean() - kl(smoothed, start).mean())
        further.append(kl(clean, attacked(x2)).mean() - kl(clean, start).mean())
        assert not torch.equal(x, x1)
    assert torch.stack(nearer).mean() > 0
    assert torch.stack(further).mean() > 0


def test_without_trades_the_start_is_the_same():
    for seed in range(3):
        ours, theirs = inputs_and_logits("bs-at", seed), inputs_and_logits("bs-trades", seed)
        assert torch.equal(ours[0][0], theirs[0][0])
        assert torch.equal(ours[1][0], theirs[1][0])


def test_the_start_of_bs_at_is_not_fgsms_differs_by_draw_and_lies_in_ball_and_box():
    x = make_batches()[0].x
    assert torch.equal(inputs_and_logits("fgsm", 0)[0][0], x)
    starts = []
    for seed in range(3):
        start = inputs_and_logits("bs-at", seed)[1][0]
        assert (start - x).abs().amax() == pytest.approx(EPS["linf"])
        assert ((start >= 0) & (start <= 1)).all()
        assert not any(torch.equal(start, other) for other in starts)
        starts.append(start)


def test_from_any_start_a_step_across_the_ball_is_the_worst_of_a_linear_model():
    x, y, eps = make_batches()[0].x, torch.tensor([0, 1] * 3), EPS["linf"]
    weight = torch.linspace(-1.0, 1.3, 36, dtype=torch.float64)
    model = LinearMargin(weight, torch.tensor(0.2, dtype=torch.float64))
    *_, loss = consume(methods.load("bs-at", alpha=2.0), model, Batch(x, y, torch.arange(6)))
    upwards = (weight.view(1, 1, 6, 6) > 0) == (y == 0).view(-1, 1, 1, 1)
    worst = torch.where(upwards, (x + eps).clamp(max=1.0), (x - eps).clamp(min=0.0))
    torch.testing.assert_close(model.last_input, worst, rtol=0, atol=1e-12)
    margin = (worst.flatten(1) @ weight + 0.2) * (2 * y - 1)
    torch.testing.assert_close(loss, F.softplus(-margin).mean(), rtol=0, atol=1e-12)
