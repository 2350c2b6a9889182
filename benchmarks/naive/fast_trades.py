"""Fast TRADES: `trades_fast.py` and `train_trades_fast.py` of jinghuichen/BackwardSmoothing.

Noise of the images' size is drawn on the CPU; after the attack, one more forward measures what it reached, for the log.
5 forwards at one step, 10 passes.
"""

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader

from benchmarks.naive import chen
from benchmarks.naive.chen import divergence, loader

__all__ = ["HALF", "PASSES", "loader", "train"]

PASSES = (5, 3, 2)
HALF = False


def train(
    model: nn.Module,
    loader: DataLoader,
    device: torch.device,
    *,
    eps: float,
    lr: float,
    momentum: float,
    weight_decay: float,
    steps: int = 1,
    alpha: float = 1.0,
    beta: float = 6.0,
) -> Iterator[None]:
    reached = []

    def attack(model: nn.Module, x: Tensor) -> Tensor:
        x_adv = x.detach() + torch.empty(x.shape).uniform_(-eps, eps).to(device)
        clean = model(x).detach()
        for _ in range(steps):
            x_adv.requires_grad_()
            distance = divergence(F.softmax(clean, dim=1), model(x_adv))
            x_adv = chen.step(x_adv, torch.autograd.grad(distance, [x_adv])[0], x, eps, alpha * eps)
        reached[:] = [divergence(F.softmax(clean, dim=1), model(x_adv)).detach()]
        return x_adv

    return chen.train(attack, model, loader, device, beta=beta, lr=lr, momentum=momentum, weight_decay=weight_decay)
