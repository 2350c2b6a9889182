"""Naive twin of `fgsm-rs`: `train_fgsm.py` of fast_adversarial with --delta-init random (reference/methods.md 2.6)."""

import torch
import torch.nn.functional as F

SETTINGS = {"alpha": 0.7}
PASSES = (2, 2, 1)  # forward, to inputs, to weights; per update at the defaults


def clamp(x, lower_limit, upper_limit):
    return torch.max(torch.min(x, upper_limit), lower_limit)


def train(model, batches, *, eps, lr, momentum, weight_decay, alpha=1.25):
    opt = torch.optim.SGD(model.parameters(), lr=lr, momentum=momentum, weight_decay=weight_decay)
    alpha = alpha * eps
    model.train()
    for x, y, _ in batches:
        delta = torch.zeros_like(x)
        delta.uniform_(-eps, eps)
        delta.data = clamp(delta, 0 - x, 1 - x)
        delta.requires_grad = True
        F.cross_entropy(model(x + delta), y).backward()
        grad = delta.grad.detach()
        delta.data = torch.clamp(delta + alpha * torch.sign(grad), -eps, eps)
        delta.data = clamp(delta, 0 - x, 1 - x)
        delta = delta.detach()
        loss = F.cross_entropy(model(x + delta), y)
        opt.zero_grad()
        loss.backward()
        opt.step()
