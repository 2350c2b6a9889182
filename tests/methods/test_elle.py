"""ELLE: its regulariser measures curvature only, and ELLE-A's weight follows it."""

import math

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from fatbench import methods
from fatbench.conformance.capture import WaitsForNothing
from fatbench.interface import Batch

from . import EPS, SGD, make_batches, make_context, make_optimizer, smooth_net, train
from .test_equivalence import load_twin
from .test_grad_align import LinearLoss


def test_the_regulariser_of_a_loss_that_is_linear_in_the_image_is_nothing():
    batch = make_batches()[0]
    wrong = Batch(batch.x, torch.zeros_like(batch.y), batch.ids)
    losses = []
    for weight in (0.0, 1.0):
        torch.manual_seed(4)
        losses += list(methods.load("elle", weight=weight)(LinearLoss(), wrong, make_context("linf")))
    assert losses[0] > 50  # linear, not flat
    assert_close(losses[1], losses[0], rtol=0, atol=1e-20 + 1e-12 * 100)


class Bent(nn.Module):
    """A model whose loss, of class 0, is log 2 everywhere but at the points between: there it is `excess` more."""

    def __init__(self):
        super().__init__()
        self.excess, self.nothing = 0.0, nn.Parameter(torch.zeros(()))

    def forward(self, x):
        images = len(x) // 3
        second = torch.zeros(len(x), dtype=torch.float64)
        if len(x) == 18:
            second[2 * images :] = math.log(2.0 * math.exp(self.excess) - 1.0)
        return torch.stack([torch.zeros_like(second), second], 1) + self.nothing * x.mean()


def weights_at(errors, **settings):
    """Return the adaptive weight with which each of these linearity errors is met."""
    (batch,), model, found = make_batches(1), Bent(), []
    ctx, method = make_context("linf"), methods.load("elle", adaptive=True, **settings)
    for error in errors:
        model.excess = math.sqrt(error)
        (loss,) = method(model, Batch(batch.x, torch.zeros_like(batch.y), batch.ids), ctx)
        found.append((loss.item() - math.log(2.0)) / error)
    return found


def test_the_adaptive_weight_is_nothing_until_an_error_jumps_and_decays_from_there():
    calm = [1.0, 1.2, 0.8, 1.0, 1.1]
    found = weights_at([*calm, 1.5, 1.0, 1.0, 1.1, 9.0, 1.0])
    jump = [0.0] * 6 + [4000.0, 4000.0 * 0.99, 4000.0 * 0.99**2, 4000.0 * 0.99**3, 4000.0]
    assert found == pytest.approx(jump, rel=1e-9, abs=1e-9)


def test_what_counts_as_a_jump_is_two_deviations_above_the_mean_of_the_errors_before():
    before = [4.0, 3.0, 2.0, 1.0]  # mean 2.5, standard deviation (of these four) 1.118
    line = 2.5 + 2 * math.sqrt(1.25)
    assert weights_at([*before, line - 0.01, 1.0])[-1] == pytest.approx(0.0, abs=1e-9)
    assert weights_at([*before, line + 0.01, 1.0])[-1] == pytest.approx(4000.0)


def test_three_errors_are_seen_before_one_may_jump():
    assert weights_at([1.0, 1.1, 9.0, 1.0]) == pytest.approx([0.0] * 4, abs=1e-9)
    assert weights_at([1.0, 1.1, 1.0, 9.0, 1.0])[-1] == pytest.approx(4000.0)


def test_small_deviations_beside_a_large_mean_are_not_lost():
    """The mean of squares less the square of the mean would have lost them."""
    errors = [1e5, 1e5 + 1e-3, 1e5, 1e5 + 1e-3]
    assert weights_at([*errors, 1e5 + 1.4e-3, 1.0])[-1] == pytest.approx(0.0, abs=1e-9)
    assert weights_at([*errors, 1e5 + 1.6e-3, 1.0])[-1] == pytest.approx(4000.0)


def test_adaptive_its_buffers_change_after_the_yield_and_without_waiting_for_a_device():
    ctx, method, model = make_context("linf"), methods.load("elle", adaptive=True, sensitivity=0.1), smooth_net()
    for batch in make_batches(12):
        before = {name: buffer.clone() for name, buffer in ctx.buffers.items()}
        losses = method(model, batch, ctx)
        with WaitsForNothing():
            next(losses)
        assert all(torch.equal(buffer, ctx.buffers[name]) for name, buffer in before.items())
        with WaitsForNothing():
            assert next(losses, None) is None
    assert ctx.buffers["count"] == 12


def test_adaptive_it_follows_its_twin_through_jumps():
    settings = {"adaptive": True, "sensitivity": 0.1, "peak": 5000.0}
    batches, mine, theirs, ctx = make_batches(12), smooth_net(), smooth_net(), make_context("linf")
    twin, _ = load_twin("elle")
    torch.manual_seed(4)
    train(methods.load("elle", **settings), mine, batches, ctx, make_optimizer(mine))
    torch.manual_seed(4)
    weight = twin(theirs, batches, eps=EPS["linf"], **SGD, **settings)
    assert 0 < weight < 5000  # it has jumped, and decayed
    assert ctx.buffers["weight"].item() == pytest.approx(weight, rel=1e-9)
    assert_close(mine.state_dict(), theirs.state_dict(), rtol=0, atol=1e-9)
