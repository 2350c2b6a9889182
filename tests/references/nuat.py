"""Naive twin of `nuat`: `NuAT_cifar10.py` of NuAT (reference/methods.md 2.9).

Three deviations, shared with fatbench: the script's second train-mode forward of the clean images, after the attack, is
run with `clean_twice` only; its regulariser's weight rises by the epoch, here by the batch; and it counts odd and even
batches anew in every epoch.
"""

import torch
import torch.nn.functional as F

SETTINGS = {"alpha": 0.6, "noise": 0.3, "weight": 2.5, "ramp": 0.5, "clean_twice": True}
PASSES = (3, 3, 2)  # forward, to inputs, to weights; per update at the defaults


def nuclear_norm(matrix):
    return torch.linalg.svdvals(matrix).sum()


def nuclear_attack(model, x, y, x_start, out, step_size, eps, reg, alt):
    x_start = x_start.clone().requires_grad_()
    rout = model(x_start)
    cost = F.cross_entropy(rout, y)
    if alt:
        cost = cost + reg * nuclear_norm(out - rout) / len(x)
    grad = torch.autograd.grad(cost, x_start)[0]
    x_adv = torch.clamp(x_start.detach() + step_size * torch.sign(grad), 0.0, 1.0)
    delta = torch.clamp(x_adv - x, -eps, eps)
    return torch.clamp(x + delta, 0.0, 1.0)


def train(
    model, batches, *, eps, lr, momentum, weight_decay, alpha=1.0, noise=0.5, weight=4.5, ramp=0.9, clean_twice=False
):
    optimizer = torch.optim.SGD(model.parameters(), lr=lr, momentum=momentum, weight_decay=weight_decay)
    for counter, (x, y, _) in enumerate(batches):
        progress = torch.tensor(counter / len(batches))  # single precision, as the trainer's is
        reg = weight * torch.clamp(progress / ramp, max=1.0)
        model.train()
        out = model(x)
        x_start = torch.clamp(x + noise * eps * torch.sign(0.5 - torch.rand_like(x)), 0.0, 1.0)
        model.eval()
        x_adv = nuclear_attack(model, x, y, x_start, out.detach(), alpha * eps, eps, reg, counter % 2)
        model.train()
        adv_out = model(x_adv)
        if clean_twice:
            out = model(x)
        loss = F.cross_entropy(out, y) + reg * nuclear_norm(out - adv_out) / len(x)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
