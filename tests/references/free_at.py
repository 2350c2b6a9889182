"""Naive twin of `free-at`: `train_free.py` of fast_adversarial (reference/methods.md 2.12).

One deviation, shared with fatbench: the carried perturbation is moved into the new batch's box before its first use;
the script uses it once as the last batch left it.
"""

import torch
import torch.nn.functional as F

from tests.references._common import clamp

SETTINGS = {"replays": 3, "alpha": 0.6}
PASSES = (1, 1, 1)  # forward, to inputs, to weights; per update at the defaults


def train(model, batches, *, eps, lr, momentum, weight_decay, replays=8, alpha=1.0):
    opt = torch.optim.SGD(model.parameters(), lr=lr, momentum=momentum, weight_decay=weight_decay)
    delta = torch.zeros_like(batches[0][0])
    delta.requires_grad = True
    model.train()
    for x, y, _ in batches:
        delta.data = clamp(delta.data, 0 - x, 1 - x)
        for _ in range(replays):
            loss = F.cross_entropy(model(x + delta), y)
            opt.zero_grad()
            loss.backward()
            grad = delta.grad.detach()
            delta.data = torch.clamp(delta.data + alpha * eps * torch.sign(grad), -eps, eps)
            delta.data = clamp(delta.data, 0 - x, 1 - x)
            opt.step()
            delta.grad.zero_()
