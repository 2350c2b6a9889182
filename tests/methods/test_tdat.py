"""TDAT's labels relax with progress, and its start is what the attack before it left."""

import math

import pytest
import torch

from fatbench import methods

from . import EPS, linear_net, make_batches, make_context, make_optimizer, smooth_net, target_of, train


@pytest.mark.parametrize("progress", [0.0, 0.5, 0.75, 0.999])
def test_the_true_class_loses_mass_with_progress_down_to_a_floor(progress):
    """As torch smooths labels: of what the true class gives away, it gets its share back."""
    ctx, batch = make_context("linf"), make_batches()[0]
    ctx.progress.fill_(progress)
    target = target_of(methods.load("tdat", weight=0.0), linear_net(10), batch, ctx)
    mass = max(0.6 * math.tan(1 - progress), 0.15)
    expected = torch.full_like(target, (1 - mass) / 10).scatter(1, batch.y.view(-1, 1), mass + (1 - mass) / 10)
    torch.testing.assert_close(target, expected, rtol=0, atol=1e-7)  # progress is float32


def test_the_trainers_smoothing_takes_the_place_of_the_methods():
    ctx, batch = make_context("linf"), make_batches()[0]
    ctx.smoothing = 0.1
    target = target_of(methods.load("tdat", weight=0.0), linear_net(10), batch, ctx)
    expected = torch.full_like(target, 0.01).scatter(1, batch.y.view(-1, 1), 0.91)
    torch.testing.assert_close(target, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("batch_momentum", [0.0, 0.75])
def test_the_start_is_what_the_attacks_before_it_left_slot_by_slot(batch_momentum):
    model, batches, seen = smooth_net(), make_batches(), []
    model.register_forward_hook(lambda _, inputs, logits: seen.append(inputs[0].detach().clone()))
    method = methods.load("tdat", batch_momentum=batch_momentum)
    train(method, model, batches, make_context("linf"), make_optimizer(model))
    carried = torch.zeros_like(batches[0].x)
    for batch, start, end in zip(batches, seen[::2], seen[1::2], strict=True):
        torch.testing.assert_close(start - batch.x, carried, rtol=0, atol=1e-12)
        assert (start - batch.x).abs().amax() <= EPS["linf"] + 1e-12
        carried = batch_momentum * carried + (1 - batch_momentum) * (end - batch.x)
