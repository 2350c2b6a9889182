"""GradAlign: FGSM plus a regulariser that is a cosine."""

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from fatbench import methods
from fatbench.interface import Batch
from fatbench.methods.grad_align import _misalignment

from . import make_batches, make_context, make_optimizer, smooth_net, train


class LinearLoss(nn.Module):
    """Two classes, the second so far ahead that the loss of the first is linear in the image."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.linspace(-1.0, 1.3, 36, dtype=torch.float64))

    def forward(self, x):
        margin = x.flatten(1) @ self.weight + 100.0
        return torch.stack([torch.zeros_like(margin), margin], 1)


def frozen_norms(model):
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eval()  # the regulariser's forward would move its statistics
    return model


def regulariser(model, batch, eps=None):
    """What the loss has more at a weight of 1 than at none."""
    losses = []
    for weight in (0.0, 1.0):
        torch.manual_seed(4)
        losses += list(methods.load("grad-align", weight=weight)(model, batch, make_context("linf", eps)))
    return (losses[1] - losses[0]).item()


def test_without_its_weight_it_is_fgsm():
    states = []
    for name, settings in (("fgsm", {}), ("grad-align", {"weight": 0.0}), ("grad-align", {})):
        model = frozen_norms(smooth_net())
        train(methods.load(name, **settings), model, make_batches(), make_context("linf"), make_optimizer(model))
        states.append(model.state_dict())
    fgsm, weightless, whole = states
    assert_close(weightless, fgsm, rtol=0, atol=1e-14)
    with pytest.raises(AssertionError):
        assert_close(whole, fgsm, rtol=0, atol=1e-4)


def test_the_regulariser_is_between_0_and_2():
    found = []
    for seed in range(20):
        torch.manual_seed(seed)
        layers = [nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(64, 3)]
        model = nn.Sequential(*layers).double()
        for weight in model.parameters():
            weight.data.mul_(8.0)  # bent enough for gradients to point anywhere
        found += [regulariser(model, batch, 1.0) for batch in make_batches()]
    assert min(found) > 0
    assert max(found) < 2
    assert max(found) > 0.5


def test_it_is_0_for_gradients_of_one_direction_and_2_for_opposite_ones():
    gradient = torch.randn(5, 1, 6, 6, dtype=torch.float64)
    assert _misalignment(gradient, 3.0 * gradient).item() == pytest.approx(0.0, abs=1e-14)
    assert _misalignment(gradient, -1e-12 * gradient).item() == pytest.approx(2.0, abs=1e-14)


@pytest.mark.parametrize("size", [1e-18, 1e-22, 1e-30, 0.0])
def test_in_float32_tiny_gradients_are_aligned_or_left_out_but_never_lost_in_infinities(size):
    gradient = size * torch.randn(5, 1, 6, 6)
    nearby = (-gradient).requires_grad_()
    found = _misalignment(gradient, nearby)
    found.backward()
    assert found.item() == pytest.approx(2.0 if size == 1e-18 else found.item())
    assert 0.0 <= found <= 2.1
    assert nearby.grad.isfinite().all()


def test_a_linear_loss_has_nothing_to_align():
    batch = make_batches()[0]
    wrong = Batch(batch.x, torch.zeros_like(batch.y), batch.ids)
    assert abs(regulariser(LinearLoss(), wrong)) < 1e-12


def test_images_without_a_gradient_are_left_out_of_the_mean():
    """A classifier so sure of some images that their loss is flat; the mean is over the others."""

    class Sure(nn.Module):
        def __init__(self, sure):
            super().__init__()
            self.net, self.sure = smooth_net()[0:3], sure
            self.head = nn.Linear(4 * 36, 3).double()

        def forward(self, x):
            logits = self.head(self.net(x).flatten(1))
            return torch.where(self.sure[: len(x), None], logits.detach(), logits)

    batch, flat = make_batches()[0], torch.tensor([False, True, False, False, True, False])
    torch.manual_seed(0)
    model = Sure(flat).double().eval()
    torch.manual_seed(0)
    every = Sure(torch.zeros_like(flat)).double().eval()
    cosines = []
    for image in range(6):
        x = batch.x[image : image + 1]
        torch.manual_seed(4)
        noise = torch.empty_like(batch.x).uniform_(-0.1, 0.1)[image : image + 1]
        gradients = []
        for z in (x, x + noise):
            leaf = z.clone().requires_grad_()
            loss = nn.functional.cross_entropy(every(leaf), batch.y[image : image + 1])
            gradients.append(torch.autograd.grad(loss, leaf)[0].flatten())
        cosines.append(torch.nn.functional.cosine_similarity(*gradients, dim=0))
    expected = 1 - torch.stack(cosines)[~flat].mean()
    assert regulariser(model, batch) == pytest.approx(expected.item(), abs=1e-12)


def test_a_batch_without_any_gradient_trains_on_cross_entropy_alone():
    class Flat(nn.Module):
        def __init__(self):
            super().__init__()
            self.bias = nn.Parameter(torch.zeros(3, dtype=torch.float64))

        def forward(self, x):
            return 0.0 * x.flatten(1)[:, :3] + self.bias

    model = Flat()
    (loss,) = methods.load("grad-align")(model, make_batches()[0], make_context("linf"))
    loss.backward()
    assert loss.item() == pytest.approx(torch.tensor(3.0).log().item())
    assert model.bias.grad.isfinite().all()
