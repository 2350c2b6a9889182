"""FGSM-MEP without what it adds is FGSM from a random corner; and what its momentum is, by hand."""

import torch
import torch.nn.functional as F

from fatbench import methods

from . import EPS, make_batches, make_context, make_optimizer, smooth_net, train

EPSILON = EPS["linf"]


def test_without_memory_consistency_and_smoothing_it_is_fgsm_from_a_random_corner():
    batches, mine, theirs = make_batches(4), smooth_net(), smooth_net()
    torch.manual_seed(2)
    method = methods.load("fgsm-mep", mse=0.0, decay=0.0, true_mass=1.0, reset=0.0)
    train(method, mine, batches, make_context("linf"), make_optimizer(mine))

    torch.manual_seed(2)
    opt = make_optimizer(theirs)
    for x, y, _ in batches:
        corner = EPSILON * torch.empty_like(x).uniform_(-EPSILON, EPSILON).sign()
        z = (x + corner).requires_grad_()
        (gradient,) = torch.autograd.grad(F.cross_entropy(theirs(z), y), z)
        stepped = torch.clamp(z.detach() + EPSILON * gradient.sign(), x - EPSILON, x + EPSILON)
        opt.zero_grad()
        F.cross_entropy(theirs(stepped.clamp(0, 1)), y).backward()
        opt.step()
    torch.testing.assert_close(mine.state_dict(), theirs.state_dict(), rtol=0, atol=1e-12)


def test_directions_are_a_decaying_sum_of_gradients_each_of_the_batchs_length_one():
    """Held still, a net has the same gradient where it has the same start: alpha 0 keeps that in place."""
    batch, model, ctx = make_batches(1, 10)[0], smooth_net(), make_context("linf")
    method = methods.load("fgsm-mep", alpha=0.0, decay=0.5)
    for expected in (1.0, 1.5, 1.75):
        for loss in method(model, batch, ctx):
            loss.backward()
        assert abs(ctx.buffers["directions"].abs().sum().item() - expected) < 1e-9
        assert not ctx.buffers["offsets"].any()


def test_a_batch_without_any_gradient_leaves_the_memory_finite():
    batch, model, ctx = make_batches(1)[0], smooth_net(), make_context("linf")
    torch.nn.init.zeros_(model[-1].weight)
    for loss in methods.load("fgsm-mep")(model, batch, ctx):
        loss.backward()
    assert not ctx.buffers["directions"].any()
    assert ctx.buffers["offsets"].isfinite().all()


def test_the_trainers_label_smoothing_replaces_its_own_in_the_loss():
    batch, losses = make_batches(1)[0], []
    for smoothing, mass in ((0.0, 0.8), (0.3, 0.6), (0.3, 1.0)):
        ctx = make_context("linf")
        ctx.smoothing = smoothing  # 0.3 of three classes leaves 0.8 to the true one
        torch.manual_seed(5)
        losses.append(next(methods.load("fgsm-mep", alpha=0.0, true_mass=mass)(smooth_net(), batch, ctx)).detach())
    torch.testing.assert_close(losses[1:], losses[:1] * 2)
