"""FGSM-PCO: where its mixture lies between the old image and the new, and that it learns where to put it."""

import torch

from fatbench import methods

from . import EPS, make_batches, make_context, smooth_net

EPSILON = EPS["linf"]


def shown(model, settings, ctx, batch):
    """What the model sees of a batch: the last image, the mixture, the new image; and the loss."""
    images = []
    handle = model.register_forward_hook(lambda _, inputs, __: images.append(inputs[0]))
    (loss,) = methods.load("fgsm-pco", **settings)(model, batch, ctx)
    handle.remove()
    return *images, loss


def test_the_surer_the_model_the_nearer_the_mixture_is_to_the_drawn_out_new_image():
    batch, model, ctx = make_batches(1)[0], smooth_net(), make_context("linf")
    last, mixture, new, _ = shown(model, {}, ctx, batch)
    with torch.no_grad():
        sureness = model(last.detach()).softmax(1)
    for image in range(len(batch.x)):
        sure = sureness[image, batch.y[image]]
        drawn_out = batch.x[image] + 1.5 * (new[image] - batch.x[image])
        torch.testing.assert_close(mixture[image], sure * drawn_out + (1 - sure) * last[image])
    torch.testing.assert_close(EPSILON * ctx.buffers["offsets"][batch.ids], new - batch.x)


def test_the_next_attack_begins_where_the_last_ended():
    batch, model, ctx = make_batches(1)[0], smooth_net(), make_context("linf")
    _, _, new, _ = shown(model, {}, ctx, batch)
    last, *_ = shown(model, {}, ctx, batch)
    torch.testing.assert_close(last, new)


def test_the_mixture_is_trained_through():
    batch, model = make_batches(1)[0], smooth_net()
    _, mixture, new, _ = shown(model, {}, make_context("linf"), batch)
    assert not new.requires_grad
    gradients = torch.autograd.grad(mixture.sum(), list(model.parameters()))
    assert all(gradient.any() for gradient in gradients[-2:])
