"""LIET's label information, the start made of it, and its uneven labels."""

import pytest
import torch

from fatbench import methods

from . import EPS, linear_net, make_batches, make_context, make_optimizer, smooth_net, target_of


@pytest.mark.parametrize(("renewed", "read"), [(1, [1, 2, 3]), (2, [2, 3, 3])])
def test_classes_take_turns_in_being_read(renewed, read):
    model, ctx, method = smooth_net(), make_context("linf"), methods.load("liet", renewed=renewed)
    opt = make_optimizer(model)
    for number, batch in enumerate(make_batches()):
        ctx.step.fill_(number)
        for loss in method(model, batch, ctx):
            opt.zero_grad()
            loss.backward()
            opt.step()
        information = ctx.buffers["information"]
        assert information.shape == (3, 1, 6, 6)
        assert information.abs().amax((1, 2, 3)).sum() == read[number]


def starts(**hyper):
    """Of each of six batches: its images, the start's offset from them, and the information as it was then."""
    model, batches, found = smooth_net(), make_batches(6), []
    ctx = make_context("linf")
    shown = []
    model.register_forward_hook(lambda _, inputs, logits: shown.append(inputs[0].detach().clone()))
    for number, batch in enumerate(batches):
        torch.manual_seed(number)
        ctx.step.fill_(number)
        for loss in methods.load("liet", **hyper)(model, batch, ctx):
            loss.backward()
        _, start, _ = shown[-3:]
        found.append((batch, start, EPS["linf"] * ctx.buffers["information"][batch.y]))
    return found


def test_unmasked_the_start_is_the_information_added_or_taken_away():
    sides = set()
    for batch, start, information in starts(min_mask=0.0, max_mask=0.0)[2:]:  # all classes have been read by then
        added, taken = ((batch.x + side * information).clamp(0, 1) for side in (1, -1))
        assert torch.equal(start, added) != torch.equal(start, taken)
        sides.add(torch.equal(start, added))
    assert sides == {False, True}


def test_masked_a_share_of_pixels_starts_from_noise_inside_the_ball():
    for batch, start, information in starts(min_mask=0.4, max_mask=0.6)[2:]:
        offset = start - batch.x
        noise = ~torch.isclose(offset.abs(), information.abs()) & (start > 0) & (start < 1)
        free = (batch.x > EPS["linf"]) & (batch.x < 1 - EPS["linf"])  # where the box cuts nothing off
        assert 0.25 < noise[free].double().mean() < 0.75
        assert offset.abs().amax() <= EPS["linf"] + 1e-12


@pytest.mark.parametrize("classes", [3, 10])
def test_the_true_class_has_its_mass_and_the_others_uneven_shares_of_the_rest(classes):
    batch, targets = make_batches()[0], []
    for seed in (0, 1):
        model = linear_net(classes)
        torch.manual_seed(seed)
        targets.append(target_of(methods.load("liet", weight=0.0), model, batch, make_context("linf")))
    for target in targets:
        torch.testing.assert_close(target.gather(1, batch.y.view(-1, 1)), torch.full((6, 1), 0.4).double())
        torch.testing.assert_close(target.sum(1), torch.ones(6).double())
        assert target.min() > -1e-12
    others = torch.arange(classes) != batch.y.view(-1, 1)
    assert (targets[0] - targets[1]).abs()[others].min() > 0


def test_the_trainers_smoothing_takes_the_place_of_the_methods():
    ctx, batch = make_context("linf"), make_batches()[0]
    ctx.smoothing = 0.1
    target = target_of(methods.load("liet", weight=0.0), linear_net(10), batch, ctx)
    torch.testing.assert_close(target.gather(1, batch.y.view(-1, 1)), torch.full((6, 1), 0.91).double())


def test_the_outputs_of_start_and_end_are_held_together_more_and_more():
    losses = []
    for progress in (0.0, 0.25, 0.5):
        ctx, model = make_context("linf"), smooth_net()
        ctx.progress.fill_(progress)
        torch.manual_seed(5)
        losses.append(next(methods.load("liet")(model, make_batches()[0], ctx)).item())
    assert losses[1] > losses[0]
    assert losses[2] - losses[1] == pytest.approx(losses[1] - losses[0])
