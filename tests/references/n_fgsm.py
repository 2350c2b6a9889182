"""Naive twin of `n-fgsm`: `train.py` of N-FGSM; project=True is its --clip 1 (reference/methods.md 2.7).

L2 is not in the script: a normal direction of uniform length, then a step along the normalised gradient.
"""

import torch
import torch.nn.functional as F

from tests.references._common import clamp, lengths, random_start

SETTINGS = {"noise": 1.5, "alpha": 0.8, "project": True}
PASSES = (2, 2, 1)  # forward, to inputs, to weights; per update at the defaults


def train(model, batches, *, eps, lr, momentum, weight_decay, noise=2.0, alpha=1.0, project=False, norm="linf"):
    opt = torch.optim.SGD(model.parameters(), lr=lr, momentum=momentum, weight_decay=weight_decay)
    model.train()
    for x, y, _ in batches:
        eta = clamp(random_start(x, noise * eps, norm), 0 - x, 1 - x)
        eta.requires_grad = True
        grad = torch.autograd.grad(F.cross_entropy(model(x + eta), y), eta)[0].detach()
        direction = torch.sign(grad) if norm == "linf" else grad / lengths(grad)
        delta = clamp(eta.detach() + alpha * eps * direction, 0 - x, 1 - x)
        if project and norm == "linf":
            delta = torch.clamp(delta, -eps, eps)
        elif project:
            delta = torch.where(lengths(delta) > eps, delta / lengths(delta) * eps, delta)
        loss = F.cross_entropy(model(x + delta), y)
        opt.zero_grad()
        loss.backward()
        opt.step()
