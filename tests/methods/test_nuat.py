"""NuAT: a norm with a gradient everywhere, whose weight grows from nothing."""

import pytest
import torch
import torch.nn.functional as F
from torch.testing import assert_close

from fatbench import methods
from fatbench.methods.nuat import _nuclear_norm

from . import make_batches, make_context, smooth_net


def gradient(matrix):
    leaf = matrix.clone().requires_grad_()
    norm = _nuclear_norm(leaf)
    norm.backward()
    return norm.detach(), leaf.grad


def matrix_with(singular_values, rows=7, columns=4):
    random = torch.Generator().manual_seed(0)
    u, _ = torch.linalg.qr(torch.randn(rows, columns, generator=random, dtype=torch.float64))
    v, _ = torch.linalg.qr(torch.randn(columns, columns, generator=random, dtype=torch.float64))
    return u @ torch.diag(torch.tensor(singular_values, dtype=torch.float64)) @ v.T, u, v


def test_norm_and_gradient_are_those_of_torch():
    matrix, _, _ = matrix_with([3.0, 1.5, 0.7, 0.2])
    for one in (matrix, matrix.T.contiguous()):
        leaf = one.clone().requires_grad_()
        norm = torch.linalg.matrix_norm(leaf, "nuc")
        (expected,) = torch.autograd.grad(norm, leaf)
        found, mine = gradient(one)
        assert_close(found, norm.detach(), rtol=1e-13, atol=0)
        assert_close(mine, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("values", [[2.0, 2.0, 2.0, 2.0], [3.0, 1.0, 1.0, 1.0], [2.0, 2.0, 1e-9, 1e-9]])
def test_repeated_singular_values_have_a_gradient(values):
    matrix, u, v = matrix_with(values)
    norm, found = gradient(matrix)
    assert norm.item() == pytest.approx(sum(values))
    assert_close(found, u @ v.T, rtol=0, atol=1e-5)


def test_singular_values_of_zero_have_none():
    matrix, u, v = matrix_with([2.0, 1.0, 0.0, 0.0])
    _, found = gradient(matrix)
    assert_close(found, u[:, :2] @ v[:, :2].T, rtol=0, atol=1e-12)
    norm, found = gradient(torch.zeros(5, 3))
    assert norm == 0
    assert torch.equal(found, torch.zeros(5, 3))


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
def test_what_is_not_finite_is_no_error_and_no_number(bad):
    """A diverged run is a result, which the trainer notices by its loss."""
    matrix, _, _ = matrix_with([3.0, 1.5, 0.7, 0.2])
    matrix[2, 1] = bad
    assert not gradient(matrix)[0].isfinite()


def test_at_the_very_beginning_it_is_standard_training():
    (batch,), model = make_batches(1), smooth_net()
    weights = list(model.parameters())
    (loss,) = methods.load("nuat")(model, batch, make_context("linf"))
    standard = F.cross_entropy(model(batch.x), batch.y)
    assert loss.item() == pytest.approx(standard.item(), abs=1e-14)
    pairs = zip(torch.autograd.grad(loss, weights), torch.autograd.grad(standard, weights), strict=True)
    for mine, theirs in pairs:
        assert_close(mine, theirs, rtol=0, atol=1e-14)


def test_its_weight_grows_to_the_whole_in_nine_tenths_of_the_training():
    """Even batches: their attack does not know the weight, so what the loss has more is proportional to it."""
    (batch,), ctx = make_batches(1), make_context("linf")
    more = []
    for progress in (0.0, 0.45, 0.9, 0.99):
        ctx.progress.fill_(progress)
        torch.manual_seed(4)
        (loss,) = methods.load("nuat")(smooth_net(), batch, ctx)
        more.append(loss.item() - F.cross_entropy(smooth_net()(batch.x), batch.y).item())
    assert more[3] > 0.01
    assert [one / more[3] for one in more] == pytest.approx([0.0, 0.5, 1.0, 1.0], rel=1e-6, abs=1e-12)


def test_a_ramp_of_no_length_is_over_at_once():
    (batch,), ctx = make_batches(1), make_context("linf")
    ctx.progress.fill_(1e-3)
    losses = []
    for ramp in (0.0, 1e-3):
        torch.manual_seed(4)
        losses += [loss.item() for loss in methods.load("nuat", ramp=ramp)(smooth_net(), batch, ctx)]
    assert losses[0] == losses[1]


@pytest.mark.parametrize("name", ["gat", "nuat"])
def test_only_odd_batches_are_guided(name):
    """Without the norm in its attack, an even batch trains as one whose attack knows cross-entropy alone."""
    (batch,), ctx = make_batches(1), make_context("linf")
    ctx.progress.fill_(0.95)
    seen = {}
    for step in (0, 1, 2):
        ctx.step.fill_(step)
        for weight in (0.0, 400.0):
            model, inputs = smooth_net(), []
            model.register_forward_hook(lambda _, args, __, inputs=inputs: inputs.append(args[0].detach()))
            torch.manual_seed(4)
            list(methods.load(name, weight=weight)(model, batch, ctx))
            seen[step, weight] = inputs[-1]
    assert torch.equal(seen[0, 0.0], seen[0, 400.0])
    assert torch.equal(seen[2, 0.0], seen[2, 400.0])
    assert not torch.equal(seen[1, 0.0], seen[1, 400.0])
