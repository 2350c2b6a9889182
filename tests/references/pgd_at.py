"""Naive twin of `pgd-at`: `attack_pgd` and `train_cifar.py` of robust_overfitting (reference/methods.md 2.2).

The script's diagnostic forwards (they too move the batch-norm statistics) are left out. In L2 the box comes before
the ball.
"""

import torch
import torch.nn.functional as F

from tests.references._common import clamp, lengths

SETTINGS = {"steps": 2, "alpha": 0.6}
PASSES = (11, 11, 1)  # forward, to inputs, to weights; per update at the defaults


def into_ball(delta, eps, norm):
    if norm == "linf":
        return torch.clamp(delta, -eps, eps)
    length = lengths(delta)
    return torch.where(length > eps, delta / length * eps, delta)


def attack_pgd(model, x, y, eps, alpha, steps, norm):
    delta = torch.zeros_like(x)
    if norm == "linf":
        delta.uniform_(-eps, eps)
    else:
        delta.normal_()
        r = torch.zeros(len(x), 1, 1, 1, dtype=x.dtype).uniform_(0, eps)
        delta = delta / lengths(delta) * r
    delta = clamp(delta, 0 - x, 1 - x)
    delta.requires_grad = True
    for _ in range(steps):
        F.cross_entropy(model(x + delta), y).backward()
        g = delta.grad.detach()
        if norm == "linf":
            d = into_ball(delta.detach() + alpha * torch.sign(g), eps, norm)
            d = clamp(d, 0 - x, 1 - x)
        else:
            d = clamp(delta.detach() + alpha * g / (lengths(g) + 1e-14), 0 - x, 1 - x)
            d = into_ball(d, eps, norm)
        delta.data = d
        delta.grad.zero_()
    return delta.detach()


def train(model, batches, *, eps, lr, momentum, weight_decay, steps=10, alpha=0.25, norm="linf"):
    opt = torch.optim.SGD(model.parameters(), lr=lr, momentum=momentum, weight_decay=weight_decay)
    model.train()
    for x, y, _ in batches:
        delta = attack_pgd(model, x, y, eps, alpha * eps, steps, norm)
        loss = F.cross_entropy(model(x + delta), y)
        opt.zero_grad()
        loss.backward()
        opt.step()
