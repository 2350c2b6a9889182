"""Naive twin of `fast-trades`: `trades_fast.py` of BackwardSmoothing (reference/methods.md 2.5).

The script's diagnostic forward after the attack is left out: the loss alone runs in train mode. L2 is not in the
script: a normal direction of uniform length, steps along the normalised gradient, then the box before the ball.
"""

import torch
import torch.nn.functional as F

from tests.references._common import outer_loss, random_start, step

SETTINGS = {"steps": 2, "alpha": 0.6, "beta": 2.5}
PASSES = (4, 3, 2)  # forward, to inputs, to weights; per update at the defaults


def fast_trades_loss(model, x_natural, y, step_size, epsilon, perturb_steps, beta, norm):
    criterion_kl = torch.nn.KLDivLoss(reduction="sum")
    model.eval()
    x_adv = x_natural.detach() + random_start(x_natural, epsilon, norm)
    nat_probs = F.softmax(model(x_natural), dim=1).detach()
    for _ in range(perturb_steps):
        x_adv.requires_grad_()
        loss_kl = criterion_kl(F.log_softmax(model(x_adv), dim=1), nat_probs)
        grad = torch.autograd.grad(loss_kl, [x_adv])[0]
        x_adv = step(x_adv, x_natural, grad, step_size, epsilon, norm)
    return outer_loss(model.train(), x_natural, x_adv.detach(), y, beta)


def train(model, batches, *, eps, lr, momentum, weight_decay, steps=1, alpha=1.0, beta=6.0, norm="linf"):
    optimizer = torch.optim.SGD(model.parameters(), lr=lr, momentum=momentum, weight_decay=weight_decay)
    model.train()
    for x, y, _ in batches:
        loss = fast_trades_loss(model, x, y, alpha * eps, eps, steps, beta, norm)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
