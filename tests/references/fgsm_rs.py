"""Naive twin of `fgsm-rs`: `train_fgsm.py` of fast_adversarial with --delta-init random (reference/methods.md 2.6).

L2 is not in the script: a normal direction of uniform length, then a step along the normalised gradient, with the box
before the ball.
"""

import torch
import torch.nn.functional as F

from tests.references._common import clamp, lengths, random_start

SETTINGS = {"alpha": 0.7}
PASSES = (2, 2, 1)  # forward, to inputs, to weights; per update at the defaults


def train(model, batches, *, eps, lr, momentum, weight_decay, alpha=1.25, norm="linf"):
    opt = torch.optim.SGD(model.parameters(), lr=lr, momentum=momentum, weight_decay=weight_decay)
    alpha = alpha * eps
    model.train()
    for x, y, _ in batches:
        delta = random_start(x, eps, norm)
        delta.data = clamp(delta, 0 - x, 1 - x)
        delta.requires_grad = True
        F.cross_entropy(model(x + delta), y).backward()
        grad = delta.grad.detach()
        if norm == "linf":
            delta.data = torch.clamp(delta + alpha * torch.sign(grad), -eps, eps)
            delta.data = clamp(delta, 0 - x, 1 - x)
        else:
            delta.data = clamp(delta + alpha * grad / lengths(grad), 0 - x, 1 - x)
            delta.data = torch.where(lengths(delta) > eps, delta / lengths(delta) * eps, delta)
        delta = delta.detach()
        loss = F.cross_entropy(model(x + delta), y)
        opt.zero_grad()
        loss.backward()
        opt.step()
