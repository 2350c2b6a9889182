"""Residual networks with pre-activation (He et al., ECCV 2016): normalise and rectify, then convolve."""

from torch import Tensor, nn


class PreActBlock(nn.Module):
    """Two 3x3 convolutions, each after its batch norm and ReLU; the input itself is the shortcut where it fits."""

    def __init__(self, before: int, after: int, stride: int) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.BatchNorm2d(before), nn.ReLU(inplace=True))
        self.residual = nn.Sequential(
            nn.Conv2d(before, after, 3, stride, padding=1, bias=False),
            nn.BatchNorm2d(after),
            nn.ReLU(inplace=True),
            nn.Conv2d(after, after, 3, padding=1, bias=False),
        )
        fits = before == after and stride == 1
        self.projection = None if fits else nn.Conv2d(before, after, 1, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        activated: Tensor = self.first(x)
        shortcut: Tensor = x if self.projection is None else self.projection(activated)
        residual: Tensor = self.residual(activated)
        return residual + shortcut


def preact_resnet18(num_classes: int, in_channels: int) -> nn.Sequential:
    """Return the pre-activation ResNet-18: 11,172,170 parameters for 10 classes of colour images.

    With batch norm and ReLU after the last block, as in Fast AT's code; pytorch-cifar omits them and has 1,024 fewer
    parameters (11,171,146). Projections take the activated input, as in pytorch-cifar; Fast AT's take the raw one.
    Initialisation is torch's default, as in both.
    """
    layers: list[nn.Module] = [nn.Conv2d(in_channels, 64, 3, padding=1, bias=False)]
    channels = 64
    for stage in range(4):
        for index in range(2):
            layers.append(PreActBlock(channels, 64 * 2**stage, stride=2 if stage and not index else 1))
            channels = 64 * 2**stage
    layers += [nn.BatchNorm2d(channels), nn.ReLU(inplace=True)]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, num_classes))
