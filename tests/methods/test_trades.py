"""What TRADES and its fast relatives reduce to, and MART's loss, written out from the logits that the model gave."""

import math

import pytest
import torch
from torch import nn

from . import first_loss, make_batches, same, smooth_net, trained


def frozen_net():
    """With the statistics of batch norm held still: the adversarial forward moves them, whatever its weight."""
    net = smooth_net()
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eval()
    return net


@pytest.mark.parametrize("name", ["trades", "bs-trades", "fast-trades"])
def test_without_beta_it_is_standard_training(name):
    standard = trained("standard", frozen_net)
    assert same(trained(name, frozen_net, beta=0.0), standard)
    assert not same(trained(name, frozen_net, beta=0.01), standard)
    assert not same(trained(name, smooth_net, beta=0.0), trained("standard", smooth_net))  # batch norm sees the attack


@pytest.mark.parametrize("beta", [0.0, 5.0])
def test_the_loss_is_its_formula_and_without_beta_the_boosted_cross_entropy_alone(beta):
    batch, total = make_batches()[0], 0.0
    loss, (*_, clean, adversarial) = first_loss("mart", smooth_net(), batch, beta=beta)
    assert torch.equal(clean.z, batch.x)
    for p, q, y in zip(probabilities(clean), probabilities(adversarial), batch.y.tolist(), strict=True):
        total += -math.log(q[y]) - math.log(1.0001 - max(q[:y] + q[y + 1 :]))
        total += beta * (1 - p[y]) * sum(a * math.log(a / b) for a, b in zip(p, q, strict=True))
    assert loss.item() == pytest.approx(total / len(batch.y), rel=1e-6)


def probabilities(seen):
    return seen.logits.softmax(1).tolist()
