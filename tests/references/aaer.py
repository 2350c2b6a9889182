"""Naive twin of `aaer`: `CIFAR10/AAER.py` of 2023_NeurIPS_AAER (reference/methods.md 2.14).

detach_ce=False is not in the script: the loss after the step then keeps its graph.
"""

import torch
import torch.nn.functional as F

from tests.references._common import clamp

SETTINGS = {"base": "n", "lambda1": 1.7, "lambda2": 0.6, "lambda3": 2.3, "detach_ce": False}
PASSES = (2, 2, 1)  # forward, to inputs, to weights; per update at the defaults


def l2_square(output, other):
    return ((output - other) ** 2).sum(1).mean(0)


def train(
    model, batches, *, eps, lr, momentum, weight_decay, base="rs", lambda1=1.0, lambda2=2.5, lambda3=1.5, detach_ce=True
):
    opt = torch.optim.SGD(model.parameters(), lr=lr, momentum=momentum, weight_decay=weight_decay)
    model.train()
    for x, y, _ in batches:
        radius, alpha = (eps, 1.25 * eps) if base == "rs" else (2 * eps, eps)
        delta = torch.zeros_like(x).uniform_(-radius, radius)
        delta = clamp(delta, 0 - x, 1 - x)
        delta.requires_grad = True
        output = model(x + delta)
        output_org = output.detach()
        loss = F.cross_entropy(output, y, reduction="none")
        loss_before = loss.detach()
        loss.mean().backward()
        delta = delta.detach() + alpha * torch.sign(delta.grad)
        if base == "rs":
            delta = torch.clamp(delta, -eps, eps)
        delta = clamp(delta, 0 - x, 1 - x)

        output = model(x + delta)
        loss_after = F.cross_entropy(output, y, reduction="none")
        loss = loss_after.mean()
        abnormal = loss_before > loss_after
        if abnormal.any() and not abnormal.all():
            fall = (loss_before - (loss_after.detach() if detach_ce else loss_after))[abnormal].mean()
            abnormal_variation = l2_square(output_org[abnormal], output[abnormal])
            normal_variation = l2_square(output_org[~abnormal], output[~abnormal]).item()
            excess = max(abnormal_variation - normal_variation, 0)
            loss = loss + lambda1 * int(abnormal.sum()) / len(y) * (lambda2 * fall + lambda3 * excess)
        opt.zero_grad()
        loss.backward()
        opt.step()
