"""What TRADES and its fast relatives reduce to."""

import pytest
from torch import nn

from . import same, smooth_net, trained


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
