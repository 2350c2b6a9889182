"""Naive twin of `gat`: `GAT_cifar10.py` of GAMA-GAT (reference/methods.md 2.10).

Two deviations, shared with fatbench: the script's second train-mode forward of the clean images, after the attack, is
run with `clean_twice` only; and it counts odd and even batches anew in every epoch.
"""

import torch
import torch.nn.functional as F

SETTINGS = {"alpha": 0.6, "noise": 0.3, "weight": 2.5, "growth": 3.0, "late": 0.5, "clean_twice": True}
PASSES = (3, 3, 2)  # forward, to inputs, to weights; per update at the defaults


def guided_attack(model, x, y, x_start, p_out, step_size, eps, reg, alt):
    x_start = x_start.clone().requires_grad_()
    out = model(x_start)
    r_out = torch.nn.Softmax(dim=1)(out)
    cost = F.cross_entropy(out, y) + alt * reg * (((p_out - r_out) ** 2.0).sum(1)).mean(0)
    grad = torch.autograd.grad(cost, x_start)[0]
    x_adv = torch.clamp(x_start.detach() + step_size * torch.sign(grad), 0.0, 1.0)
    delta = torch.clamp(x_adv - x, -eps, eps)
    return torch.clamp(x + delta, 0.0, 1.0)


def train(
    model,
    batches,
    *,
    eps,
    lr,
    momentum,
    weight_decay,
    alpha=1.0,
    noise=0.5,
    weight=10.0,
    growth=4.0,
    late=0.85,
    clean_twice=False,
):
    optimizer = torch.optim.SGD(model.parameters(), lr=lr, momentum=momentum, weight_decay=weight_decay)
    for counter, (x, y, _) in enumerate(batches):
        reg = weight * growth if counter / len(batches) >= late else weight
        model.train()
        out = model(x)
        p_out = torch.nn.Softmax(dim=1)(out)
        x_start = torch.clamp(x + noise * eps * torch.sign(0.5 - torch.rand_like(x)), 0.0, 1.0)
        model.eval()
        x_adv = guided_attack(model, x, y, x_start, p_out.detach(), alpha * eps, eps, reg, counter % 2)
        model.train()
        q_out = torch.nn.Softmax(dim=1)(model(x_adv))
        if clean_twice:
            out = model(x)
            p_out = torch.nn.Softmax(dim=1)(out)
        loss = F.cross_entropy(out, y) + reg * ((p_out - q_out) ** 2.0).sum(1).mean(0)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
