"""Naive twin of `fgsm`: `train_fgsm.py` of fast_adversarial with --delta-init zero (reference/methods.md 2.6)."""

import torch
import torch.nn.functional as F

from tests.references._common import clamp

SETTINGS = {"alpha": 0.6}
PASSES = (2, 2, 1)  # forward, to inputs, to weights; per update at the defaults


def train(model, batches, *, eps, lr, momentum, weight_decay, alpha=1.0):
    opt = torch.optim.SGD(model.parameters(), lr=lr, momentum=momentum, weight_decay=weight_decay)
    alpha = alpha * eps
    model.train()
    for x, y, _ in batches:
        delta = torch.zeros_like(x, requires_grad=True)
        F.cross_entropy(model(x + delta), y).backward()
        grad = delta.grad.detach()
        delta = torch.clamp(delta.detach() + alpha * torch.sign(grad), -eps, eps)
        delta = clamp(delta, 0 - x, 1 - x)
        loss = F.cross_entropy(model(x + delta), y)
        opt.zero_grad()
        loss.backward()
        opt.step()
