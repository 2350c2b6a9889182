"""Backward smoothing: `trades_backward.py` and `train_trades_backward.py` of jinghuichen/BackwardSmoothing.

The clean output is computed with a graph and detached, then once more as the start of the first attack step. Noise on
the logits is drawn on the CPU. 5 forwards, 11 passes.
"""

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader

from benchmarks.naive import chen
from benchmarks.naive.chen import divergence, loader

__all__ = ["HALF", "PASSES", "loader", "train"]

PASSES = (5, 4, 2)
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
    beta: float = 10.0,
    gamma: float = 1.0,
) -> Iterator[None]:
    def attack(model: nn.Module, x: Tensor) -> Tensor:
        x_adv = x.detach()
        x_adv.requires_grad_()
        clean = model(x).detach()
        noise = gamma * torch.empty(clean.shape).uniform_(-1.0, 1.0).to(device)
        nearness = -divergence(F.softmax(clean + noise, dim=1), model(x_adv))
        x_adv = chen.step(x_adv, torch.autograd.grad(nearness, [x_adv])[0], x, eps, alpha * eps)
        for _ in range(steps):
            x_adv.requires_grad_()
            distance = divergence(F.softmax(clean, dim=1), model(x_adv))
            x_adv = chen.step(x_adv, torch.autograd.grad(distance, [x_adv])[0], x, eps, alpha * eps)
        return x_adv

    return chen.train(attack, model, loader, device, beta=beta, lr=lr, momentum=momentum, weight_decay=weight_decay)
