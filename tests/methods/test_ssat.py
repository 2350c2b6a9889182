"""SSAT takes the smallest part of the step that fools, in closed form on a linear model."""

import pytest
import torch

from fatbench import methods
from fatbench.interface import Batch
from fatbench.training.weight_perturbation import perturbed

from . import EPS, make_batches, make_context, smooth_net
from .test_equivalence import LinearMargin, consume

WEIGHT = torch.linspace(-1.0, 1.3, 36, dtype=torch.float64)
# Clean margins, as shares of what the whole step takes off: the part that first exceeds a share fools.
SHARES = [-0.5, 0.3, 0.55, 0.8, 1.2]


def images_with_margins(margins):
    """Images off the box's walls whose margins under WEIGHT, without bias, are these."""
    middle = torch.full((36,), 0.5, dtype=torch.float64)
    offset = (margins - middle @ WEIGHT) / WEIGHT.square().sum()
    return (middle + offset.view(-1, 1) * WEIGHT).view(-1, 1, 6, 6)


@pytest.mark.parametrize(
    ("checkpoints", "parts"), [(1, [0, 1, 1, 1, 1]), (3, [0, 1 / 3, 2 / 3, 1, 1]), (4, [0, 1 / 2, 3 / 4, 1, 1])]
)
@pytest.mark.parametrize("label", [0, 1])
def test_each_image_is_trained_on_with_the_smallest_part_that_fools(checkpoints, parts, label):
    side = 2 * label - 1
    whole = EPS["linf"] * WEIGHT.abs().sum()
    x = images_with_margins(side * whole * torch.tensor(SHARES, dtype=torch.float64))
    assert EPS["linf"] < x.min()
    assert x.max() < 1 - EPS["linf"]
    batch = Batch(x, torch.full((len(x),), label), torch.arange(len(x)))
    model = LinearMargin(WEIGHT, torch.tensor(0.0, dtype=torch.float64))
    consume(methods.load("ssat", checkpoints=checkpoints, alpha=2.0), model, batch)  # alpha 2: from any start
    worst = -side * EPS["linf"] * WEIGHT.sign().view(1, 1, 6, 6)
    expected = x + torch.tensor(parts, dtype=torch.float64).view(-1, 1, 1, 1) * worst
    torch.testing.assert_close(model.last_input, expected, rtol=0, atol=1e-12)


def test_only_the_loss_moves_the_batch_norms():
    model, training = smooth_net(), []
    model.register_forward_hook(lambda module, *_: training.append(module.training))
    consume(methods.load("ssat"), model, make_batches()[0])
    assert training == [False, False, False, True]


def test_the_same_images_are_trained_on_where_awp_has_moved_the_weights():
    images, model = [], smooth_net()
    model.register_forward_hook(lambda _, inputs, logits: images.append(inputs[0]))
    next(perturbed(methods.load("ssat"), 0.5)(model, make_batches()[0], make_context("linf")))
    assert len(images) == 4 + 1  # what fools is not asked again
    assert torch.equal(images[3], images[4])
