"""The calibration kernel: a fixed piece of work by which methods' times are divided.

It does what an adversarial training step does, with the operators and sizes of the small model on digits, in plain
torch and nothing of fatbench. So a slower machine, a busier one or a slower torch slow it down as they slow the
methods down, and a change of fatbench does not touch it. Never change it: that would move every ratio. If it must be,
raise PROTOCOL in `benchmarks/baseline.py`, which makes every stored baseline void.
"""

import torch
import torch.nn.functional as F
from torch import nn


class Kernel:
    """A training step in train mode, and an attack step in eval mode, on a batch of 128 images of 8x8."""

    def __init__(self, device: torch.device) -> None:
        generator = torch.Generator().manual_seed(0)
        self._net = _net(generator).to(device)
        self._x = torch.rand(128, 1, 8, 8, generator=generator).to(device)
        self._y = (torch.arange(128) % 10).to(device)
        self._optimizer = torch.optim.SGD(self._net.parameters(), lr=1e-6, momentum=0.9, weight_decay=5e-4)

    def __call__(self) -> None:
        self._net.train()
        loss = F.cross_entropy(self._net(self._x), self._y)
        self._optimizer.zero_grad()
        loss.backward()
        self._optimizer.step()

        self._net.eval()
        leaf = self._x.detach().requires_grad_()
        loss = F.cross_entropy(self._net(leaf), self._y, reduction="sum")
        (gradient,) = torch.autograd.grad(loss, leaf)
        torch.min(torch.max(self._x + 0.1 * gradient.sign(), self._x - 0.1), self._x + 0.1).clamp(0, 1)


def _net(generator: torch.Generator) -> nn.Sequential:
    layers: list[nn.Module] = []
    for before, after, stride in ((1, 16, 1), (16, 32, 2), (32, 32, 1)):
        layers += [nn.Conv2d(before, after, 3, stride, padding=1, bias=False), nn.BatchNorm2d(after), nn.ReLU(True)]
    net = nn.Sequential(*layers, nn.Flatten(), nn.Linear(512, 10))
    for weight in net.parameters():
        if weight.ndim > 1:
            nn.init.kaiming_uniform_(weight, a=5**0.5, generator=generator)
    return net
