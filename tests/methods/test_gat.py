"""GAT: a weight that grows near the end, and an attack that is guided in every other batch."""

import pytest
import torch
import torch.nn.functional as F

from fatbench import methods

from . import make_batches, make_context, smooth_net


def distance_paid(progress, **settings):
    """What the loss of an even batch, whose attack does not know the weight, has more than standard training's."""
    (batch,), ctx = make_batches(1), make_context("linf")
    ctx.progress.fill_(progress)
    torch.manual_seed(4)
    (loss,) = methods.load("gat", **settings)(smooth_net(), batch, ctx)
    return loss.item() - F.cross_entropy(smooth_net()(batch.x), batch.y).item()


def test_its_weight_is_four_times_as_much_from_85_percent_on():
    early = distance_paid(0.0)
    assert early > 1e-4
    growths = [distance_paid(progress) / early for progress in (0.5, 0.849, 0.851, 0.99)]
    assert growths == pytest.approx([1.0, 1.0, 4.0, 4.0], rel=1e-9)
    assert distance_paid(0.851, late=0.9) == distance_paid(0.849)


def test_without_its_weight_it_is_standard_training():
    assert distance_paid(0.99, weight=0.0) == pytest.approx(0.0, abs=1e-14)
