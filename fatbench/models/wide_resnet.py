"""Wide residual networks (Zagoruyko & Komodakis, BMVC 2016): pre-activation, three stages, no dropout."""

from math import sqrt

from torch import nn

from fatbench.models.preact_resnet import PreActBlock


def wrn_28_10(num_classes: int, in_channels: int) -> nn.Sequential:
    """Return WRN-28-10: 36,479,194 parameters for 10 classes of colour images."""
    return _wide_resnet(28, 10, num_classes, in_channels)


def wrn_34_10(num_classes: int, in_channels: int) -> nn.Sequential:
    """Return WRN-34-10: 46,160,474 parameters for 10 classes of colour images, 6.7 GMAC at 32x32."""
    return _wide_resnet(34, 10, num_classes, in_channels)


def _wide_resnet(depth: int, widening: int, num_classes: int, in_channels: int) -> nn.Sequential:
    layers: list[nn.Module] = [nn.Conv2d(in_channels, 16, 3, padding=1, bias=False)]
    channels = 16
    for stage in range(3):
        for index in range((depth - 4) // 6):
            layers.append(PreActBlock(channels, 16 * widening * 2**stage, stride=2 if stage and not index else 1))
            channels = 16 * widening * 2**stage
    layers += [nn.BatchNorm2d(channels), nn.ReLU(inplace=True)]
    net = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, num_classes))
    _initialise(net)
    return net


def _initialise(net: nn.Module) -> None:
    """He normal by fan-out for convolutions and a zero bias at the end, as TRADES has it."""
    for module in net.modules():
        if isinstance(module, nn.Conv2d):
            fan_out = module.out_channels * module.kernel_size[0] * module.kernel_size[1]
            nn.init.normal_(module.weight, 0.0, sqrt(2 / fan_out))
        elif isinstance(module, nn.Linear):
            nn.init.zeros_(module.bias)
