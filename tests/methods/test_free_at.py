"""Free AT without its memory: what is left of it."""

import torch
import torch.nn.functional as F

from fatbench import methods

from . import EPS, make_batches, make_context, make_optimizer, same, smooth_net, train, trained


def test_one_replay_from_nothing_is_standard_training():
    """Its only gradient is that at the image itself, which is what it steps on."""
    model, opt = smooth_net(), None
    opt = make_optimizer(model)
    torch.manual_seed(2)
    for batch in make_batches():
        train(methods.load("free-at", replays=1), model, [batch], make_context("linf"), opt)  # a fresh memory each time
    assert same(model.state_dict(), trained("standard"))


def test_the_second_replay_from_nothing_is_fgsm_with_the_gradient_of_the_weights_before():
    model = smooth_net()
    opt, batch = make_optimizer(model), make_batches()[0]
    z = batch.x.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(F.cross_entropy(model(z), batch.y), z)
    worst = (batch.x + EPS["linf"] * gradient.sign()).clamp(0, 1)
    seen = []
    model.register_forward_pre_hook(lambda _, images: seen.append(images[0].detach().clone()))
    train(methods.load("free-at", replays=2), model, [batch], make_context("linf"), opt)
    torch.testing.assert_close(seen, [batch.x, worst], rtol=0, atol=1e-12)
