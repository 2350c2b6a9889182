"""Residual networks with post-activation (He et al., CVPR 2016), in their CIFAR form: a 3x3 stem and no max-pool.

Initialisation is torch's default (Kaiming uniform, a = sqrt(5)), as in pytorch-cifar; He et al.'s normal
initialisation would be another network to compare with.
"""

from collections.abc import Sequence

from torch import Tensor, nn

_LARGE = 32  # pixels; larger images are halved by the stem


class BasicBlock(nn.Module):
    """Two 3x3 convolutions beside a shortcut."""

    expansion = 1

    def __init__(self, before: int, width: int, stride: int) -> None:
        super().__init__()
        self.residual = nn.Sequential(
            nn.Conv2d(before, width, 3, stride, padding=1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(inplace=True),
            nn.Conv2d(width, width, 3, padding=1, bias=False),
            nn.BatchNorm2d(width),
        )
        self.shortcut = _shortcut(before, width, stride)

    def forward(self, x: Tensor) -> Tensor:
        total: Tensor = self.residual(x) + self.shortcut(x)
        return total.relu_()


class Bottleneck(nn.Module):
    """1x1, 3x3 (which holds the stride) and 1x1 convolutions beside a shortcut."""

    expansion = 4

    def __init__(self, before: int, width: int, stride: int) -> None:
        super().__init__()
        after = self.expansion * width
        self.residual = nn.Sequential(
            nn.Conv2d(before, width, 1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(inplace=True),
            nn.Conv2d(width, width, 3, stride, padding=1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(inplace=True),
            nn.Conv2d(width, after, 1, bias=False),
            nn.BatchNorm2d(after),
        )
        self.shortcut = _shortcut(before, after, stride)

    def forward(self, x: Tensor) -> Tensor:
        total: Tensor = self.residual(x) + self.shortcut(x)
        return total.relu_()


def resnet18(num_classes: int, in_channels: int) -> nn.Sequential:
    """Return ResNet-18: 11,173,962 parameters for 10 classes of colour images, 0.56 GMAC at 32x32."""
    return _resnet(BasicBlock, [2, 2, 2, 2], num_classes, in_channels, stem_stride=1)


def resnet50(num_classes: int, in_channels: int, image_size: int | tuple[int, int]) -> nn.Sequential:
    """Return ResNet-50: 23,910,152 parameters for the 200 classes of Tiny-ImageNet, 1.3 GMAC at 64x64.

    For images beyond 32 pixels the stem has stride 2, so that the stages run at 32, 16, 8 and 4 pixels as they do on
    CIFAR. A stride rather than ImageNet's max-pool: a quarter of the stem's work, and a deterministic backward pass.
    """
    larger = image_size if isinstance(image_size, int) else max(image_size)
    return _resnet(Bottleneck, [3, 4, 6, 3], num_classes, in_channels, stem_stride=2 if larger > _LARGE else 1)


def _resnet(
    block: type[BasicBlock] | type[Bottleneck],
    depths: Sequence[int],
    num_classes: int,
    in_channels: int,
    *,
    stem_stride: int,
) -> nn.Sequential:
    layers: list[nn.Module] = [
        nn.Conv2d(in_channels, 64, 3, stem_stride, padding=1, bias=False),
        nn.BatchNorm2d(64),
        nn.ReLU(inplace=True),
    ]
    channels = 64
    for stage, depth in enumerate(depths):
        width = 64 * 2**stage
        for index in range(depth):
            layers.append(block(channels, width, stride=2 if stage and not index else 1))
            channels = block.expansion * width
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, num_classes))


def _shortcut(before: int, after: int, stride: int) -> nn.Module:
    if before == after and stride == 1:
        return nn.Identity()
    return nn.Sequential(nn.Conv2d(before, after, 1, stride, bias=False), nn.BatchNorm2d(after))
