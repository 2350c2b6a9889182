import copy

import pytest
import torch
from torch import nn

from fatbench.models.classifier import Classifier, full_precision
from tests.models.test_catalogue import build


class Spy(nn.Module):
    """Linear on the pixels; remembers what it was given, and in which type it worked."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(12, 4)

    def forward(self, x):
        self.seen = x
        logits = self.linear(x.flatten(1))
        self.worked_in = logits.dtype
        return logits


def test_normalises_inside():
    net = Spy()
    x = torch.rand(5, 3, 2, 2)
    Classifier(net, [0.1, 0.2, 0.3], [1.0, 2.0, 4.0])(x)
    for channel, (mean, std) in enumerate([(0.1, 1.0), (0.2, 2.0), (0.3, 4.0)]):
        assert torch.allclose(net.seen[:, channel], (x[:, channel] - mean) / std)


def test_a_shifted_mean_changes_nothing_when_the_images_shift_along():
    model = build("small-cnn").eval()
    other = Classifier(model.net, [0.4 + 0.125], [0.3]).eval()
    x = torch.rand(6, 1, 8, 8)
    assert torch.allclose(model(x), other(x + 0.125), atol=1e-5)
    assert not torch.allclose(model(x), other(x), atol=1e-2)


def test_a_checkpoint_carries_its_normalisation():
    state = build("small-cnn").state_dict()
    assert state["mean"].shape == state["std"].shape == (1, 1, 1, 1)
    other = build("small-cnn")
    other.mean.fill_(9.0)
    other.load_state_dict(state)
    assert float(other.mean) == pytest.approx(0.4)


def test_bf16_works_in_bfloat16_and_answers_in_float32():
    net = Spy()
    model = Classifier(net, [0.5] * 3, [0.5] * 3, "bf16")
    x = torch.rand(5, 3, 2, 2)
    logits = model(x)
    assert (net.seen.dtype, net.worked_in, logits.dtype) == (torch.float32, torch.bfloat16, torch.float32)
    logits.sum().backward()
    assert net.linear.weight.grad.dtype == torch.float32
    with full_precision(model):
        exact = model(x)
        assert net.worked_in == torch.float32
    assert model.precision == "bf16"
    assert torch.allclose(logits, exact, atol=0.05)
    assert not torch.equal(logits, exact)


def test_full_precision_is_restored_after_a_failure():
    model = build("small-cnn", precision="bf16")

    def fail():
        with full_precision(model):
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert model.precision == "bf16"


def test_fp32_ignores_an_autocast_around_it():
    net = Spy()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        Classifier(net, [0.5] * 3, [0.5] * 3)(torch.rand(5, 3, 2, 2))
    assert net.worked_in == torch.float32


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_float64_model_stays_float64(precision):
    model = build("small-cnn", precision=precision).double()
    assert model(torch.rand(2, 1, 8, 8, dtype=torch.float64)).dtype == torch.float64


@pytest.mark.parametrize("name", ["small-cnn", "resnet18", "preact-resnet18"])
def test_bf16_logits_are_close_for_real_networks(name):
    model = build(name, shape=(3, 32, 32), precision="bf16").eval()
    x = torch.rand(2, 3, 32, 32)
    with torch.no_grad():
        low = model(x)
        with full_precision(model):
            high = model(x)
    assert low.dtype == torch.float32
    assert torch.allclose(low, high, atol=0.1)


def test_channels_last_is_a_property_of_the_weights():
    model = build("small-cnn", shape=(3, 32, 32)).eval()
    other = copy.deepcopy(model).to(memory_format=torch.channels_last)
    seen = []
    other.net[0].register_forward_hook(lambda _module, _inputs, output: seen.append(output))
    x = torch.rand(2, 3, 32, 32)
    assert torch.allclose(model(x), other(x), atol=1e-5)
    assert seen[0].is_contiguous(memory_format=torch.channels_last)


def test_input_gradients_reach_a_pixel_at_either_end_of_its_range():
    x = torch.rand(2, 1, 8, 8)
    x[0, 0, 0, 0], x[0, 0, 0, 1] = 0.0, 1.0
    x.requires_grad_()
    build("small-cnn")(x).square().sum().backward()
    assert bool((x.grad[0, 0, 0, :2] != 0).all())
