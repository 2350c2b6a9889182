"""Networks that people might bring, and what makes each of them awkward."""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import prune, spectral_norm, weight_norm

SHAPE = (3, 8, 8)


class Made(nn.Module):
    """A network out of named layers and a function of it and its input."""

    def __init__(self, function: Callable[[Any, Tensor], Tensor], **layers: nn.Module) -> None:
        super().__init__()
        self._function = function
        for name, layer in layers.items():
            self.add_module(name, layer)

    def forward(self, x: Tensor) -> Tensor:
        return self._function(self, x)


def conv(before: int = 3, after: int = 4, **options: Any) -> nn.Conv2d:
    return nn.Conv2d(before, after, 3, **{"padding": 1, **options})


def made(function: Callable[[Any, Tensor], Tensor], **layers: nn.Module) -> nn.Module:
    """`function` gives four maps of 8x8 pixels, out of layers to which a convolution and a batch norm belong."""
    layers = {"conv": conv(), "bn": nn.BatchNorm2d(4), **layers, "head": nn.Linear(256, 5)}
    return Made(lambda net, x: net.head(function(net, x).flatten(1)), **layers)


def stack(*layers: nn.Module) -> nn.Sequential:
    """The layers, giving four maps of 8x8 pixels, and a linear layer."""
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(256, 5))


def shaken(net: nn.Module, seed: int = 0) -> nn.Module:
    """`net` with the statistics of batch norms at random, and their weights too: negative, tiny and zero ones."""
    random = torch.Generator().manual_seed(seed)
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d) and module.running_var is not None:
            module.running_mean.normal_(generator=random)
            module.running_var.uniform_(0.2, 2.0, generator=random)
            if module.affine:
                count = module.num_features
                sign = torch.randint(2, (count,), generator=random).mul(2).sub(1)
                size = torch.where(torch.arange(count) % 4 == 3, 1e-7, torch.rand(count, generator=random) + 0.5)
                module.weight.data.copy_(sign * size)
                module.weight.data[1 % count] = 0.0
                if module.bias is not None:
                    module.bias.data.normal_(generator=random)
    return net


# What can be frozen: the network, and how many of its batch norms can be folded


def _one_after_the_other(net: Any, x: Tensor) -> Tensor:
    return net.bn(net.again(net.bn(net.conv(x))))


FOLDABLE: dict[str, tuple[Callable[[], nn.Module], int]] = {
    "biased convolutions": (lambda: stack(conv(), nn.BatchNorm2d(4), nn.ReLU(), conv(4), nn.BatchNorm2d(4)), 2),
    "unbiased ones": (lambda: stack(conv(bias=False), nn.BatchNorm2d(4), nn.ReLU(), conv(4)), 1),
    "a norm without affine": (lambda: stack(conv(), nn.BatchNorm2d(4, affine=False), nn.ReLU()), 1),
    "a norm without bias": (lambda: stack(conv(), _unbiased(nn.BatchNorm2d(4)), nn.ReLU()), 1),
    "a norm with a large epsilon": (lambda: stack(conv(), nn.BatchNorm2d(4, eps=0.5), nn.ReLU()), 1),
    "a norm first": (lambda: stack(nn.BatchNorm2d(3), nn.ReLU(), conv(), nn.BatchNorm2d(4), nn.Softplus()), 1),
    "two norms in a row": (lambda: stack(conv(), nn.BatchNorm2d(4), nn.BatchNorm2d(4), nn.ReLU()), 1),
    "a norm after a ReLU": (lambda: stack(conv(), nn.ReLU(), nn.BatchNorm2d(4), conv(4), nn.BatchNorm2d(4)), 1),
    "groups": (lambda: stack(conv(3, 6), nn.BatchNorm2d(6), nn.ReLU(), conv(6, 4, groups=2), nn.BatchNorm2d(4)), 2),
    "depthwise": (lambda: stack(conv(3, 6, groups=3), nn.BatchNorm2d(6), conv(6, 4), nn.BatchNorm2d(4)), 2),
    "dilation": (lambda: stack(conv(dilation=2, padding=2), nn.BatchNorm2d(4), nn.ReLU()), 1),
    "padding by name": (lambda: stack(conv(padding="same"), nn.BatchNorm2d(4), nn.ReLU()), 1),
    "stride": (lambda: stack(conv(3, 16, stride=2), nn.BatchNorm2d(16), nn.ReLU()), 1),
    "in-place layers": (
        lambda: stack(conv(), nn.BatchNorm2d(4), nn.ReLU(True), conv(4), nn.BatchNorm2d(4), nn.LeakyReLU(0.2, True)),
        2,
    ),
    "dropout": (lambda: stack(conv(), nn.BatchNorm2d(4), nn.Dropout(0.5), nn.ReLU()), 1),
    "a shortcut": (lambda: made(lambda net, x: net.bn(net.conv(x)).relu_() + x.mean(1, keepdim=True)), 1),
    "a convolution with another reader": (lambda: made(lambda net, x: (y := net.conv(x)) * net.bn(y)), 0),
    "two norms of one convolution": (
        lambda: made(lambda net, x: net.bn(y := net.conv(x)) + net.other(y), other=nn.BatchNorm2d(4)),
        0,
    ),
    "a convolution used twice": (
        lambda: made(lambda net, x: net.bn(net.conv(x)) + net.other(net.conv(-x)), other=nn.BatchNorm2d(4)),
        0,
    ),
    "a norm used twice": (lambda: made(_one_after_the_other, again=conv(4)), 0),
    "a layer under two names": (
        lambda: made(lambda net, x: net.bn(net.conv(x)) + net.alias(x), alias=(one := conv()), conv=one),
        0,
    ),
    "tied weights": (
        lambda: _tied(
            made(lambda net, x: net.bn(net.conv(x)) + net.b(net.twin(x)), twin=conv(), b=nn.BatchNorm2d(4))
        ),
        2,
    ),
    "no linear layer": (
        lambda: nn.Sequential(conv(), nn.BatchNorm2d(4), nn.ReLU(), conv(4, 5), nn.AdaptiveAvgPool2d(1), nn.Flatten()),
        1,
    ),
    "a layer after the linear one": (lambda: nn.Sequential(stack(conv(), nn.BatchNorm2d(4)), nn.LogSoftmax(1)), 1),
    "a forward of one's own": (lambda: made(lambda net, x: F.gelu(net.bn(net.conv(x.flip(3))))), 1),
    "branches on its mode": (lambda: made(lambda net, x: net.bn(net.conv(x)) * (1.0 if net.training else 3.0)), 1),
}  # fmt: skip


def _unbiased(norm: nn.BatchNorm2d) -> nn.BatchNorm2d:
    norm.register_parameter("bias", None)
    return norm


def _tied(net: nn.Module) -> nn.Module:
    net.twin.weight = net.conv.weight  # type: ignore[union-attr]
    return net


# What cannot be frozen, and what is said


class _Raw(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body, self.gain = stack(conv(), nn.BatchNorm2d(4)), nn.Parameter(torch.tensor(2.0))

    def forward(self, x: Tensor) -> Tensor:
        return self.gain * self.body(x)


class _OwnConvolution(nn.Conv2d):
    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x, self.weight.tanh(), self.bias, padding=1)


def uncounted() -> nn.BatchNorm2d:
    """A batch norm whose statistics move without a count of batches."""
    norm = nn.BatchNorm2d(4)
    norm.num_batches_tracked = None
    return norm


UNFOLDABLE: dict[str, tuple[Callable[[], nn.Module], str]] = {
    "branches on its data": (
        lambda: made(lambda net, x: net.bn(net.conv(x)) if x.sum() > 0 else net.conv(x)),
        "its forward cannot be traced (TraceError)",
    ),
    "a weight outside a layer": (_Raw, "it uses 'gain' outside a layer"),
    "a convolution of one's own": (
        lambda: stack(_OwnConvolution(3, 4, 3), nn.BatchNorm2d(4)),
        "it uses '0.weight' outside a layer",
    ),
    "group norm": (
        lambda: stack(conv(), nn.BatchNorm2d(4), nn.GroupNorm(2, 4)),
        "GroupNorm is a layer that it does not know",
    ),
    "a transposed convolution": (
        lambda: stack(nn.ConvTranspose2d(3, 4, 3, padding=1), nn.BatchNorm2d(4)),
        "ConvTranspose2d is a layer that it does not know",
    ),
    "a parametrised convolution": (
        lambda: stack(nn.utils.parametrizations.weight_norm(conv()), nn.BatchNorm2d(4)),
        "ParametrizedConv2d is a layer that it does not know",
    ),
    "circular padding": (
        lambda: stack(conv(padding_mode="circular"), nn.BatchNorm2d(4)),
        "a convolution pads with circular",
    ),
    "no running statistics": (
        lambda: stack(conv(), nn.BatchNorm2d(4, track_running_stats=False)),
        "a batch norm keeps no running statistics",
    ),
    "batches that are not counted": (
        lambda: stack(conv(), uncounted()),
        "a batch norm does not count its batches, by which changes of its statistics are seen",
    ),
    "no batch norm": (lambda: stack(conv(), nn.ReLU()), "no batch norm follows a convolution"),
}


# What may or may not be frozen, but must be right


class _Calls(nn.Sequential):
    """A Sequential whose forward is its own."""

    def forward(self, x: Tensor) -> Tensor:
        return 2.0 * super().forward(x.flip(3))


class _Arguments(nn.Sequential):
    """A Sequential that is made of something other than layers."""

    def __init__(self, num_classes: int) -> None:
        super().__init__(conv(), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(256, num_classes))


class _Buffer(nn.Module):
    """Has a buffer, which it reads as a number."""

    def __init__(self) -> None:
        super().__init__()
        self.body = stack(conv(), nn.BatchNorm2d(4), nn.ReLU())
        self.register_buffer("temperature", torch.tensor(2.0))

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            self.temperature.mul_(1.5)
        return self.body(x) / float(self.temperature)


class _Embedding(nn.Module):
    """Has a weight of five dimensions."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.places = stack(conv(), nn.BatchNorm2d(4)), nn.Parameter(torch.randn(1, 1, *SHAPE))

    def forward(self, x: Tensor) -> Tensor:
        return self.body(x + self.places[0])


def _branches_on_type(net: Any, x: Tensor) -> Tensor:
    y: Tensor = net.bn(net.conv(x))
    return y * 3.0 if isinstance(x, Tensor) else y


def _mixes_types(net: Any, x: Tensor) -> Tensor:
    return torch.matmul(net.bn(net.conv(x)), x.mean(1, keepdim=True))


def _hooked(layer: nn.Module, *, before: bool) -> nn.Module:
    if before:
        layer.register_forward_pre_hook(lambda _, inputs: (inputs[0].flip(3),))
    else:
        layer.register_forward_hook(lambda *given: 2.0 * given[-1])
    return layer


def _pruned(layer: nn.Module) -> nn.Module:
    prune.l1_unstructured(layer, "weight", 0.5)
    return layer


AWKWARD: dict[str, Callable[[], nn.Module]] = {
    "views its maps": lambda: made(lambda net, x: (y := net.bn(net.conv(x))).view(len(y), -1)),
    "a weight of five dimensions": _Embedding,
    "a Sequential with arguments": lambda: _Arguments(5),
    "a Sequential with a forward": lambda: _Calls(*stack(conv(), nn.BatchNorm2d(4))),
    "a buffer as a number": _Buffer,
    "branches on its input's type": lambda: made(_branches_on_type),
    "bfloat16 maps by float32 ones": lambda: made(_mixes_types),
    "a hook before": lambda: stack(_hooked(conv(), before=True), nn.BatchNorm2d(4)),
    "a hook after": lambda: stack(_hooked(conv(), before=False), nn.BatchNorm2d(4)),
    "a hook on a norm": lambda: stack(conv(), _hooked(nn.BatchNorm2d(4), before=False)),
    "a hook on the whole": lambda: _hooked(stack(conv(), nn.BatchNorm2d(4)), before=False),
    "spectral norm by hook": lambda: stack(spectral_norm(conv()), nn.BatchNorm2d(4)),
    "weight norm by hook": lambda: stack(weight_norm(conv()), nn.BatchNorm2d(4)),
    "pruned": lambda: stack(_pruned(conv()), nn.BatchNorm2d(4)),
    "a frozen part": lambda: _half_frozen(stack(conv(), nn.BatchNorm2d(4), nn.ReLU(), conv(4))),
}  # fmt: skip


def _half_frozen(net: nn.Sequential) -> nn.Sequential:
    net[:2].requires_grad_(False)
    return net
