"""Naive twin of `multi-grad`: `train_cifar.py` of catastrophic_overfitting (reference/methods.md 2.16).

The starts are taken one after the other, as without the script's flag for parallel ones.
"""

import torch
import torch.nn.functional as F

from tests.references._common import clamp

SETTINGS = {"starts": 2, "alpha": 0.7}
PASSES = (4, 4, 1)  # forward, to inputs, to weights; per update at the defaults


def train(model, batches, *, eps, lr, momentum, weight_decay, starts=3, alpha=2.0):
    opt = torch.optim.SGD(model.parameters(), lr=lr, momentum=momentum, weight_decay=weight_decay)
    model.train()
    for x, y, _ in batches:
        signs = []
        for _ in range(starts):
            delta = torch.zeros_like(x).uniform_(-eps, eps)
            delta = clamp(delta, 0 - x, 1 - x)
            delta.requires_grad = True
            F.cross_entropy(model(x + delta), y).backward()
            signs.append(torch.sign(delta.grad))
        delta = torch.zeros_like(x)
        delta[torch.stack(signs).eq(1).all(0)] = min(alpha, 1) * eps
        delta[torch.stack(signs).eq(-1).all(0)] = -min(alpha, 1) * eps
        delta = clamp(delta, 0 - x, 1 - x)
        loss = F.cross_entropy(model(x + delta), y)
        opt.zero_grad()
        loss.backward()
        opt.step()
