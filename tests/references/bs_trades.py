"""Naive twin of `bs-trades`: `trades_backward.py` of BackwardSmoothing (reference/methods.md 2.4).

L2 is not in the script: steps along the normalised gradient, then the box before the ball, as in trades.
"""

import torch
import torch.nn.functional as F

from tests.references._common import outer_loss, step

SETTINGS = {"steps": 2, "alpha": 0.6, "beta": 2.5, "gamma": 0.4}
PASSES = (4, 4, 2)  # forward, to inputs, to weights; per update at the defaults


def backward_smoothing_loss(model, x_natural, y, step_size, epsilon, perturb_steps, beta, gamma, norm):
    criterion_kl = torch.nn.KLDivLoss(reduction="sum")
    model.eval()
    batch_size = len(x_natural)

    # Look for the input whose output is already the randomly perturbed one: descend the divergence to it.
    nat_logits = model(x_natural).detach()
    random = torch.zeros_like(nat_logits).uniform_(-1, 1)
    target = F.softmax(nat_logits + gamma * random, dim=1)
    x_adv = x_natural.detach().clone().requires_grad_()
    loss = -(1.0 / batch_size) * criterion_kl(F.log_softmax(model(x_adv), dim=1), target)
    grad = torch.autograd.grad(loss, [x_adv])[0]
    x_adv = step(x_adv, x_natural, grad, step_size, epsilon, norm)

    # From there ascend the divergence from the unperturbed output.
    for _ in range(perturb_steps):
        x_adv.requires_grad_()
        loss_kl = criterion_kl(F.log_softmax(model(x_adv), dim=1), F.softmax(nat_logits, dim=1))
        grad = torch.autograd.grad(loss_kl, [x_adv])[0]
        x_adv = step(x_adv, x_natural, grad, step_size, epsilon, norm)

    return outer_loss(model.train(), x_natural, x_adv.detach(), y, beta)


def train(model, batches, *, eps, lr, momentum, weight_decay, steps=1, alpha=1.0, beta=10.0, gamma=1.0, norm="linf"):
    optimizer = torch.optim.SGD(model.parameters(), lr=lr, momentum=momentum, weight_decay=weight_decay)
    model.train()
    for x, y, _ in batches:
        loss = backward_smoothing_loss(model, x, y, alpha * eps, eps, steps, beta, gamma, norm)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
