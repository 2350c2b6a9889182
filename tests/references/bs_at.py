"""Naive twin of `bs-at`, which no paper has: the start of `trades_backward.py` (reference/methods.md 2.4), then PGD.

L2: steps along the normalised gradient, then the box before the ball, as in trades.
"""

import torch
import torch.nn.functional as F

from tests.references._common import step

SETTINGS = {"steps": 2, "alpha": 0.6, "gamma": 0.4}
PASSES = (3, 3, 1)  # forward, to inputs, to weights; per update at the defaults


def attack(model, x_natural, y, step_size, epsilon, perturb_steps, gamma, norm):
    # Look for the input whose output is already the randomly perturbed one: descend the divergence to it.
    nat_logits = model(x_natural).detach()
    target = F.softmax(nat_logits + gamma * torch.zeros_like(nat_logits).uniform_(-1, 1), dim=1)
    x_adv = x_natural.detach().clone().requires_grad_()
    loss = -torch.nn.KLDivLoss(reduction="sum")(F.log_softmax(model(x_adv), dim=1), target)
    grad = torch.autograd.grad(loss, [x_adv])[0]
    x_adv = step(x_adv, x_natural, grad, step_size, epsilon, norm)

    # From there ascend the cross-entropy.
    for _ in range(perturb_steps):
        x_adv.requires_grad_()
        grad = torch.autograd.grad(F.cross_entropy(model(x_adv), y), [x_adv])[0]
        x_adv = step(x_adv, x_natural, grad, step_size, epsilon, norm)
    return x_adv.detach()


def train(model, batches, *, eps, lr, momentum, weight_decay, steps=1, alpha=1.0, gamma=1.0, norm="linf"):
    optimizer = torch.optim.SGD(model.parameters(), lr=lr, momentum=momentum, weight_decay=weight_decay)
    for x, y, _ in batches:
        model.eval()
        x_adv = attack(model, x, y, alpha * eps, eps, steps, gamma, norm)
        model.train()
        loss = F.cross_entropy(model(x_adv), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
