"""Naive twin of `zero-grad`: `train_cifar.py` of catastrophic_overfitting (reference/methods.md 2.16)."""

import torch
import torch.nn.functional as F

from tests.references._common import clamp

SETTINGS = {"quantile": 0.6, "alpha": 0.7}
PASSES = (2, 2, 1)  # forward, to inputs, to weights; per update at the defaults


def train(model, batches, *, eps, lr, momentum, weight_decay, quantile=0.35, alpha=2.0):
    opt = torch.optim.SGD(model.parameters(), lr=lr, momentum=momentum, weight_decay=weight_decay)
    model.train()
    for x, y, _ in batches:
        delta = torch.zeros_like(x).uniform_(-eps, eps)
        delta = clamp(delta, 0 - x, 1 - x)
        delta.requires_grad = True
        F.cross_entropy(model(x + delta), y).backward()
        grad = delta.grad.detach()
        for image in grad:
            image[image.abs() < torch.quantile(image.abs(), quantile)] = 0
        delta = torch.clamp(delta.detach() + alpha * eps * torch.sign(grad), -eps, eps)
        delta = clamp(delta, 0 - x, 1 - x)
        loss = F.cross_entropy(model(x + delta), y)
        opt.zero_grad()
        loss.backward()
        opt.step()
