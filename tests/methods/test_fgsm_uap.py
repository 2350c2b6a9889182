"""The universal perturbation: its ball, its momentum, its classes; and the smoothed labels."""

import pytest
import torch

from fatbench import methods
from fatbench.interface import Batch

from . import EPS, linear_net, make_batches, make_context, make_optimizer, smooth_net, target_of, train
from .test_equivalence import LinearMargin, consume

RADIUS = 1.25 * EPS["linf"]
WEIGHT = torch.linspace(-1.0, 1.3, 36, dtype=torch.float64)
UPHILL = WEIGHT.sign().view(1, 6, 6)


def one_label(label, size=6):
    x = torch.full((size, 1, 6, 6), 0.5, dtype=torch.float64)
    return Batch(x, torch.full((size,), label), torch.arange(size))


def universal_after(labels, weight=0.0, **hyper):
    """The universal perturbations of a linear model after a batch of each of the labels."""
    ctx, model = make_context("linf"), LinearMargin(WEIGHT, torch.tensor(0.2, dtype=torch.float64))
    for label in labels:
        consume(methods.load("fgsm-uap", true_mass=1.0, weight=weight, **hyper), model, one_label(label), ctx)
    return ctx.buffers["uap"]


@pytest.mark.parametrize("per_class", [False, True])
def test_the_perturbation_stays_in_its_own_ball_which_is_larger_than_the_attacks(per_class):
    model, ctx = smooth_net(), make_context("linf")
    train(methods.load("fgsm-uap", per_class=per_class), model, make_batches(8), ctx, make_optimizer(model))
    uap = ctx.buffers["uap"]
    assert uap.shape == (3 if per_class else 1, 1, 6, 6)
    assert uap.abs().amax() == pytest.approx(RADIUS)
    assert uap.abs().amax() > EPS["linf"]


@pytest.mark.parametrize(("decay", "remains"), [(0.3, 0.0), (2.0, -1.0)])
def test_the_perturbation_goes_where_the_momentum_points(decay, remains):
    """Two batches pull opposite ways, equally hard: what is kept of the first decides."""
    torch.testing.assert_close(universal_after([1], decay=decay)[0], -RADIUS * UPHILL)
    torch.testing.assert_close(universal_after([1, 0], decay=decay)[0], remains * RADIUS * UPHILL)


def test_the_loss_pulls_at_the_perturbation_too():
    """The attack's gradient is -w (1 - p) / n, that of the mean squared difference w weight eps |w| / n."""
    x, eps = one_label(1).x[0], EPS["linf"]
    wrong = torch.sigmoid(-(x.flatten() @ WEIGHT + 0.2))
    balance = float(wrong / (eps * WEIGHT.abs().sum()))
    for weight, direction in [(0.9 * balance, -1.0), (1.1 * balance, 1.0)]:
        torch.testing.assert_close(universal_after([1], weight)[0], direction * RADIUS * UPHILL)


def test_each_class_has_its_own_and_only_those_in_the_batch_move():
    after_one = universal_after([1], per_class=True)
    torch.testing.assert_close(after_one, torch.stack([0 * UPHILL, -RADIUS * UPHILL]))
    torch.testing.assert_close(
        universal_after([1, 0], per_class=True), torch.stack([RADIUS * UPHILL, -RADIUS * UPHILL])
    )


@pytest.mark.parametrize("classes", [3, 10])
def test_the_true_class_is_left_exactly_its_mass(classes):
    batch = make_batches()[0]
    method = methods.load("fgsm-uap", weight=0.0)
    target = target_of(method, linear_net(classes), batch, make_context("linf"))
    expected = torch.full_like(target, 0.4 / (classes - 1)).scatter(1, batch.y.view(-1, 1), 0.6)
    torch.testing.assert_close(target, expected, rtol=0, atol=1e-12)


def test_the_trainers_smoothing_takes_the_place_of_the_methods():
    ctx, batch = make_context("linf"), make_batches()[0]
    ctx.smoothing = 0.1
    target = target_of(methods.load("fgsm-uap", weight=0.0), linear_net(10), batch, ctx)
    expected = torch.full_like(target, 0.01).scatter(1, batch.y.view(-1, 1), 0.91)
    torch.testing.assert_close(target, expected, rtol=0, atol=1e-12)
