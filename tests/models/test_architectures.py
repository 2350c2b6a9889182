"""Architectures against torchvision where it has them, else against plain functional code written from the papers."""

import pytest
import torch
import torch.nn.functional as F
import torchvision.models
from torch import nn

from fatbench.models.preact_resnet import preact_resnet18
from fatbench.models.resnet import resnet18, resnet50
from fatbench.models.small_cnn import small_cnn
from fatbench.models.wide_resnet import _wide_resnet, wrn_28_10, wrn_34_10


@pytest.mark.parametrize(
    ("make", "arguments", "parameters"),
    [
        (small_cnn, {"num_classes": 10, "in_channels": 1, "image_size": 8}, 19_258),
        (small_cnn, {"num_classes": 10, "in_channels": 1, "image_size": 28}, 150_378),
        (small_cnn, {"num_classes": 10, "in_channels": 3, "image_size": 32}, 150_378 + 2 * 9 * 32),
        (resnet18, {"num_classes": 10, "in_channels": 3}, 11_173_962),
        (resnet50, {"num_classes": 10, "in_channels": 3, "image_size": 32}, 23_520_842),
        (resnet50, {"num_classes": 200, "in_channels": 3, "image_size": 64}, 23_910_152),
        # He et al.'s batch norm after the last block: 2 x 512 more than pytorch-cifar, which omits it.
        (preact_resnet18, {"num_classes": 10, "in_channels": 3}, 11_171_146 + 1_024),
        (wrn_28_10, {"num_classes": 10, "in_channels": 3}, 36_479_194),
        (wrn_34_10, {"num_classes": 10, "in_channels": 3}, 46_160_474),
    ],
)
def test_parameter_counts(make, arguments, parameters):
    with torch.device("meta"):
        assert sum(one.numel() for one in make(**arguments).parameters()) == parameters


NETS = {
    "small-cnn": lambda k, c, size: small_cnn(k, c, size),
    "resnet18": lambda k, c, _: resnet18(k, c),
    "preact-resnet18": lambda k, c, _: preact_resnet18(k, c),
    "resnet50": lambda k, c, size: resnet50(k, c, size),
    "wrn": lambda k, c, _: _wide_resnet(10, 2, k, c),  # the same code as the two large ones, 1/100 of their size
}


@pytest.mark.parametrize("name", NETS)
@pytest.mark.parametrize(("channels", "size"), [(1, 8), (3, 8), (1, 28), (3, 32), (3, (20, 11)), (1, 1)])
def test_any_channels_sizes_and_classes(name, channels, size):
    height, width = size if isinstance(size, tuple) else (size, size)
    for classes in (2, 7):
        net = NETS[name](classes, channels, size).eval()
        with torch.no_grad():
            assert net(torch.rand(2, channels, height, width)).shape == (2, classes)


@pytest.mark.parametrize("size", [32, 64])
def test_resnets_equal_torchvision_with_a_cifar_stem(size):
    for ours, theirs, stride in (
        (resnet18(5, 3), torchvision.models.resnet18(num_classes=5), 1),
        (resnet50(5, 3, size), torchvision.models.resnet50(num_classes=5), size // 32),
    ):
        theirs.conv1 = nn.Conv2d(3, 64, 3, stride, padding=1, bias=False)
        theirs.maxpool = nn.Identity()
        pairs = zip(theirs.state_dict(), ours.state_dict().values(), strict=True)
        theirs.load_state_dict({key: value.clone() for key, value in pairs})
        x = torch.rand(2, 3, size, size)
        with torch.no_grad():
            assert torch.allclose(ours(x), theirs(x), atol=1e-5)  # train mode, and moves the running statistics
            assert torch.allclose(ours.eval()(x), theirs.eval()(x), atol=1e-5)


def preactivation_reference(net, x, blocks):
    """The forward pass of a pre-activation network in eval mode; blocks are (stride, has projection)."""
    convolutions = iter([m for m in net.modules() if isinstance(m, nn.Conv2d)])
    norms = iter([m for m in net.modules() if isinstance(m, nn.BatchNorm2d)])

    def activate(h):
        norm = next(norms)
        mean, variance = norm.running_mean.view(1, -1, 1, 1), norm.running_var.view(1, -1, 1, 1)
        scaled = (h - mean) / torch.sqrt(variance + 1e-5) * norm.weight.view(1, -1, 1, 1)
        return torch.maximum(scaled + norm.bias.view(1, -1, 1, 1), torch.zeros(()))

    h = F.conv2d(x, next(convolutions).weight, padding=1)
    for stride, has_projection in blocks:
        a = activate(h)
        first, second = next(convolutions), next(convolutions)
        residual = F.conv2d(activate(F.conv2d(a, first.weight, stride=stride, padding=1)), second.weight, padding=1)
        h = residual + (F.conv2d(a, next(convolutions).weight, stride=stride) if has_projection else h)
    assert not list(convolutions)
    last = net[-1]
    return activate(h).mean((2, 3)) @ last.weight.T + last.bias


def shake(net):
    """Batch norms away from the identity, where a misplaced one would not show."""
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.uniform_(-0.3, 0.3)
            module.running_var.uniform_(0.5, 2)
            module.weight.data.uniform_(0.5, 2)
            module.bias.data.uniform_(-0.3, 0.3)


@torch.no_grad()
def test_preact_resnet18_equals_the_formulas():
    net = preact_resnet18(5, 3).eval()
    shake(net)
    x = torch.rand(2, 3, 16, 16)
    blocks = [(1, False)] * 2 + [(2, True), (1, False)] * 3
    assert torch.allclose(net(x), preactivation_reference(net, x, blocks), atol=1e-4)


@torch.no_grad()
def test_wide_resnet_equals_the_formulas():
    net = _wide_resnet(16, 2, 5, 3).eval()
    shake(net)
    x = torch.rand(2, 3, 16, 16)
    blocks = [(1, True), (1, False)] + [(2, True), (1, False)] * 2
    assert torch.allclose(net(x), preactivation_reference(net, x, blocks), atol=1e-4)


def test_wide_resnet_has_he_initialisation():
    convolutions = [m for m in _wide_resnet(16, 4, 10, 3).modules() if isinstance(m, nn.Conv2d)]
    for module in convolutions:
        expected = (2 / (module.out_channels * module.kernel_size[0] ** 2)) ** 0.5
        assert module.weight.std().item() == pytest.approx(expected, rel=0.15)


def test_small_cnn_keeps_the_whole_image_in_view():
    """Every pixel, those at the border included, reaches the logits at every size."""
    for size in (8, 15, 16, 17, 28, 30, 64):
        x = torch.rand(2, 1, size, size, requires_grad=True)
        small_cnn(3, 1, size).double()(x.double()).square().sum().backward()
        assert bool((x.grad.abs().sum(0) > 0).all()), size
