"""ATTA: perturbations follow their images through crops and flips; without memory it is one-step PGD-AT."""

import pytest
import torch
import torch.nn.functional as F

from fatbench import methods
from fatbench.crop_flip import CropFlip
from fatbench.interface import Batch

from . import EPS, SGD, make_batches, make_context, make_optimizer, smooth_net
from .test_equivalence import load_twin

EPSILON, PAD = EPS["linf"], 2


def viewed(batches, pad=PAD):
    """The batches as views of their images at random, the views, and these one image at a time, for the twin."""
    random = torch.Generator().manual_seed(3)
    found, views, singly = [], [], []
    for x, y, ids in batches:
        top, left = torch.randint(2 * pad + 1, (2, len(x)), generator=random)
        view = CropFlip(pad, top, left, torch.randint(2, (len(x),), generator=random).bool())
        found.append(Batch(view.crop(F.pad(x, (pad,) * 4)), y, ids))
        views.append(view)
        singly.append([(pad, *one) for one in zip(top.tolist(), left.tolist(), view.flip.tolist(), strict=True)])
    return found, views, singly


@pytest.mark.parametrize("settings", [{}, {"loss": "trades"}, {"reset": 2.0, "steps": 2}], ids=str)
def test_under_crops_and_flips_it_trains_as_the_naive_twin(settings):
    batches, views, singly = viewed(make_batches(5))
    mine, theirs, ctx, twin = smooth_net(), smooth_net(), make_context("linf"), load_twin("atta")[0]
    torch.manual_seed(2)
    opt, method = make_optimizer(mine), methods.load("atta", **settings)
    for number, (batch, view) in enumerate(zip(batches, views, strict=True)):
        ctx.step.fill_(number)
        ctx.crop_flip = view
        for loss in method(mine, batch, ctx):
            opt.zero_grad()
            loss.backward()
            opt.step()
    torch.manual_seed(2)
    twin(theirs, batches, eps=EPSILON, **SGD, **settings, views=singly)
    torch.testing.assert_close(mine.state_dict(), theirs.state_dict(), rtol=0, atol=1e-9)


def test_what_one_view_left_another_finds_where_it_lies_in_the_image():
    """Two views of an image of 3x3 pixels in a frame of one pixel; with alpha 0 the attack leaves it where it is."""
    x, ids, y = torch.full((1, 1, 3, 3), 0.5, dtype=torch.float64), torch.tensor([4]), torch.tensor([0])
    ctx, shown = make_context("linf"), []
    frame = torch.arange(25, dtype=torch.float64).view(1, 1, 5, 5) / 25  # in units of eps
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(9, 3)).double()
    model.register_forward_hook(lambda _, inputs, __: shown.append(inputs[0].detach().clone()))

    def see(alpha, top, left, flip):
        shown.clear()
        ctx.crop_flip = CropFlip(1, torch.tensor([top]), torch.tensor([left]), torch.tensor([flip]))
        for loss in methods.load("atta", alpha=alpha, noise=0.0)(model, Batch(x, y, ids), ctx):
            loss.backward()
        return (shown[0][0, 0] - x[0, 0]) / EPSILON

    assert not see(0.0, 1, 1, False).any()
    ctx.buffers["offsets"][ids] = frame
    torch.testing.assert_close(see(0.0, 0, 2, False), frame[0, 0, 0:3, 2:5])
    torch.testing.assert_close(see(0.0, 2, 1, True), frame[0, 0, 2:5, 1:4].flip(1))
    torch.testing.assert_close(ctx.buffers["offsets"][4], frame[0])

    see(0.5, 2, 1, True)
    moved = ctx.buffers["offsets"][4, 0] - frame[0, 0]
    assert (moved[2:5, 1:4] != 0).all()
    moved[2:5, 1:4] = 0
    assert moved.abs().max() < 1e-12
    end = (shown[-1][0, 0] - x[0, 0]) / EPSILON
    torch.testing.assert_close(see(0.0, 2, 1, False), end.flip(1))
    assert not ctx.buffers["offsets"][[0, 1, 2, 3, 5, 6, 7, 8, 9]].any()


def test_reset_every_batch_it_is_pgd_of_one_step_from_a_little_noise():
    batches, mine, theirs = make_batches(4), smooth_net(), smooth_net()
    torch.manual_seed(2)
    ctx, opt = make_context("linf"), make_optimizer(mine)
    for number, batch in enumerate(batches):
        ctx.step.fill_(number)
        for loss in methods.load("atta", reset=0.0, alpha=1.0, noise=0.2)(mine, batch, ctx):
            opt.zero_grad()
            loss.backward()
            opt.step()

    torch.manual_seed(2)
    opt = make_optimizer(theirs)
    for x, y, _ in batches:
        z = (x + 0.2 * EPSILON * torch.randn_like(x)).requires_grad_()
        theirs.eval()
        (gradient,) = torch.autograd.grad(F.cross_entropy(theirs(z), y), z)
        theirs.train()
        stepped = torch.clamp(z.detach() + EPSILON * gradient.sign(), x - EPSILON, x + EPSILON)
        opt.zero_grad()
        F.cross_entropy(theirs(stepped.clamp(0, 1)), y).backward()
        opt.step()
    torch.testing.assert_close(mine.state_dict(), theirs.state_dict(), rtol=0, atol=1e-12)


def test_with_the_loss_of_trades_it_costs_a_clean_forward_more():
    batch, seen, model = make_batches(1)[0], [], smooth_net()
    model.register_forward_hook(lambda _, inputs, __: seen.append(inputs[0]))
    list(methods.load("atta", loss="trades")(model, batch, make_context("linf")))
    assert len(seen) == 3
    assert torch.equal(seen[1], batch.x)
