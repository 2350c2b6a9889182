from math import ceil

from torch import nn

_GRID = 4  # cells on a side of what the linear layer sees
_LARGE = 16  # pixels; beyond it, one more stage and wider ones


def small_cnn(num_classes: int, in_channels: int, image_size: int | tuple[int, int]) -> nn.Sequential:
    """Return a plain CNN for small grey images; torch's default initialisation (Kaiming uniform, a = sqrt(5)).

    Up to 16x16: convolutions 16, 32 (stride 2), 32, then the 4x4 grid into a linear layer: 19,258 parameters for 8x8
    digits, 0.24 MMAC an image, so that a whole comparison of methods takes seconds on one core, and wide enough to
    tell them apart. Beyond: 32, 64 (stride 2), 64, 128 (stride 2), pooled to a grid of at most 4x4: 150,378 parameters
    for 28x28 MNIST, 15 MMAC an image, because larger images need the larger field of view and the width.
    The grid is not pooled away: where a stroke lies is what tells digits apart.
    """
    height, width = (image_size, image_size) if isinstance(image_size, int) else image_size
    large = max(height, width) > _LARGE
    channels, strides = ([32, 64, 64, 128], [1, 2, 1, 2]) if large else ([16, 32, 32], [1, 2, 1])
    layers: list[nn.Module] = []
    for before, after, stride in zip([in_channels, *channels], channels, strides, strict=False):
        layers += [nn.Conv2d(before, after, 3, stride, padding=1, bias=False), nn.BatchNorm2d(after), nn.ReLU(True)]
        height, width = ceil(height / stride), ceil(width / stride)
    # Windows of fixed size, not adaptive pooling: its backward pass is not deterministic on CUDA, and MPS lacks it
    # for sizes that do not divide.
    window = (ceil(height / _GRID), ceil(width / _GRID))
    cells = ceil(height / window[0]) * ceil(width / window[1])
    pool = nn.AvgPool2d(window, ceil_mode=True)
    return nn.Sequential(*layers, pool, nn.Flatten(), nn.Linear(channels[-1] * cells, num_classes))
