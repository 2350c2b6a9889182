"""Naive twin of `grad-align`: `train.py` of understanding-fast-adv-training with --attack_init zero (2.11).

One deviation, shared with fatbench: the script clamps x + 0 to the box before the first forward by maximum and minimum,
which halves the gradient of pixels at exactly 0 and 1.
"""

import torch
import torch.nn.functional as F

SETTINGS = {"alpha": 0.6, "weight": 0.7}
PASSES = (4, 4, 3)  # forward, to inputs, to weights; per update at the defaults; the second backward is one of each


def input_gradient(model, x, y, delta, backprop):
    delta.requires_grad = True
    loss = F.cross_entropy(model(x + delta), y)
    grad = torch.autograd.grad(loss, delta, create_graph=backprop)[0]
    return grad if backprop else grad.detach()


def alignment(grad1, grad2):
    cosines = []
    for one, two in zip(grad1, grad2, strict=True):
        norm1, norm2 = (one**2).sum() ** 0.5, (two**2).sum() ** 0.5
        if norm1 != 0 and norm2 != 0:
            cosines.append((one / norm1 * (two / norm2)).sum())
    return torch.stack(cosines).mean()


def train(model, batches, *, eps, lr, momentum, weight_decay, alpha=1.25, weight=0.2):
    opt = torch.optim.SGD(model.parameters(), lr=lr, momentum=momentum, weight_decay=weight_decay)
    model.train()
    for x, y, _ in batches:
        grad1 = input_gradient(model, x, y, torch.zeros_like(x), backprop=False)
        delta = torch.clamp(alpha * eps * torch.sign(grad1), -eps, eps)
        delta = torch.clamp(x + delta, 0, 1) - x
        loss = F.cross_entropy(model(x + delta), y)
        grad2 = input_gradient(model, x, y, torch.zeros_like(x).uniform_(-eps, eps), backprop=True)
        loss = loss + weight * (1.0 - alignment(grad1, grad2))
        opt.zero_grad()
        loss.backward()
        opt.step()
