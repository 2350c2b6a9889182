"""Memory of single images, of whichever method has any: it belongs to images, ends in time, and may be coarse."""

import pytest
import torch
from torch import nn

from fatbench import methods
from fatbench.interface import Batch

from . import EPS, NUM_TRAIN, make_batches, make_context, make_optimizer, smooth_net, train

(EVERYTHING,) = make_batches(1, NUM_TRAIN)
IN_ORDER = EVERYTHING.ids.argsort()
BATCHES = [Batch(*(part[rows] for part in EVERYTHING)) for rows in IN_ORDER.split(5)]  # two batches a pass


def remembers(name):
    """Whether the method keeps images for each training image."""
    ctx, model = make_context("linf"), smooth_net()
    train(methods.load(name), model, make_batches(1), ctx, make_optimizer(model))
    return any(value.ndim == 4 and len(value) == NUM_TRAIN for value in ctx.buffers.values())


NAMES = [name for name in methods.names() if "num_train" in methods.describe(name).source]
every_method = pytest.mark.parametrize("name", NAMES)
with_resets = pytest.mark.parametrize("name", [name for name in NAMES if "reset" in methods.describe(name).hyper])


def test_these_methods_remember_images():
    assert {"atta", "fgsm-mep", "fgsm-pco"} <= set(NAMES)
    assert [name for name in NAMES if not remembers(name)] == []


def first_loss(method, batch, ctx):
    """The loss of a fresh net, and the memory after it."""
    model = smooth_net()
    torch.manual_seed(4)
    for loss in method(model, batch, ctx):
        loss.backward()
    return loss.detach(), {key: value.clone() for key, value in ctx.buffers.items()}


@every_method
def test_memory_follows_the_image_and_not_its_slot_in_the_batch(name):
    """Drawn noise follows the slot, but all images have been seen, so that none counts."""
    method = methods.load(name)
    losses, memories = [], []
    for order in (torch.arange(NUM_TRAIN), torch.arange(NUM_TRAIN).flip(0), torch.arange(NUM_TRAIN).roll(3)):
        ctx = make_context("linf")
        first_loss(method, EVERYTHING, ctx)
        ctx.step.fill_(1)
        loss, memory = first_loss(method, Batch(*(part[order] for part in EVERYTHING)), ctx)
        losses.append(loss)
        memories.append(memory)
    torch.testing.assert_close(losses[1:], losses[:1] * 2)
    torch.testing.assert_close(memories[1:], memories[:1] * 2)


@every_method
def test_images_of_other_batches_keep_their_memory(name):
    ctx, method = make_context("linf"), methods.load(name)
    for step in range(2):
        ctx.step.fill_(step)
        first_loss(method, BATCHES[step], ctx)
    before = {key: value.clone() for key, value in ctx.buffers.items()}
    ctx.step.fill_(2)
    first_loss(method, BATCHES[0], ctx)
    changed = {key for key, value in before.items() if not torch.equal(value[:5], ctx.buffers[key][:5])}
    assert changed  # of the batch's own images
    assert all(torch.equal(value[5:], ctx.buffers[key][5:]) for key, value in before.items())


@with_resets
def test_memory_ends_when_the_period_turns_and_only_for_images_that_come_up(name):
    """Whatever was remembered of an image is told apart from nothing by what comes of it."""
    method, lives = methods.load(name, reset=2.0), []  # two passes, of two batches each
    for step in range(7):
        outcomes = []
        for filling in (0.3, -0.2):
            ctx = make_context("linf")
            first_loss(method, BATCHES[0], ctx)  # images 0 to 4 in the first period, the others never
            for value in ctx.buffers.values():
                if value.dtype.is_floating_point:
                    value.fill_(filling)
            ctx.step.fill_(step)
            outcomes.append(first_loss(method, BATCHES[0], ctx))
        (loss, memory), (other_loss, other) = outcomes
        lives.append(not torch.equal(loss, other_loss))
        assert lives[-1] or all(torch.equal(value[:5], other[key][:5]) for key, value in memory.items())
        assert memory["born"].tolist() == [1 + step // 4] * 5 + [0] * 5
    assert lives == [True, True, True, True, False, False, False]


@with_resets
def test_an_image_that_missed_a_period_starts_afresh_when_it_comes_up(name):
    method, born = methods.load(name, reset=1.0), []
    ctx = make_context("linf")
    for step, batch in enumerate([0, 1, 0, 0, 0, 1]):
        ctx.step.fill_(step)
        _, memory = first_loss(method, BATCHES[batch], ctx)
        born.append((int(memory["born"][0]), int(memory["born"][9])))
    assert born == [(1, 0), (1, 1), (2, 1), (2, 1), (3, 1), (3, 3)]


# Coarse memory


class Watched(nn.Module):
    """Keeps what the net is shown."""

    def __init__(self):
        super().__init__()
        self.net, self.seen = smooth_net(), []

    def forward(self, z):
        self.seen.append(z.detach().clone())
        return self.net(z)


@pytest.mark.parametrize("eps", [EPS["linf"], 8 / 255, 0.031])
@every_method
def test_memory_for_which_there_is_no_room_is_coarse_and_still_keeps_ball_and_box(name, eps):
    description, method, model = methods.describe(name), methods.load(name), Watched()
    ctx, opt = make_context("linf", eps), make_optimizer(model)
    ctx.memory_limit = 0
    for number, batch in enumerate(make_batches(12)):
        ctx.step.fill_(number)
        model.seen.clear()
        train(method, model, [batch], ctx, opt)
        far = torch.stack([(z - batch.x).abs().max() for z in model.seen])
        assert (far <= (description.reach + 1e-9) * eps).all()
        if not description.trains_outside:
            assert 0 <= model.seen[-1].min() <= model.seen[-1].max() <= 1
    assert {value.dtype for value in ctx.buffers.values() if value.ndim == 4} == {torch.bfloat16}
    assert all(value.isfinite().all() for value in ctx.buffers.values())


@every_method
def test_with_coarse_memory_it_learns(name):
    model, ctx = smooth_net(), make_context("linf", 8 / 255)
    ctx.memory_limit, opt, losses = 0, make_optimizer(model), []
    for group in opt.param_groups:
        group["lr"] = 0.02
    for number in range(60):
        ctx.step.fill_(number)
        for loss in methods.load(name)(model, EVERYTHING, ctx):
            opt.zero_grad()
            loss.backward()
            opt.step()
            losses.append(loss.item())
    with torch.no_grad():
        right = (model(EVERYTHING.x).argmax(1) == EVERYTHING.y).double().mean()
    assert right >= 0.9
    assert losses[-1] < 0.9 * losses[0]  # smoothed labels have a floor
