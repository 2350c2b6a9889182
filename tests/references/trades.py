"""Naive twin of `trades`: `trades_loss` of TRADES (reference/methods.md 2.3).

The script's third train-mode forward (natural images once more, for the loss) is run with `clean_twice` only. In L2
the box comes before the ball.
"""

import torch
import torch.nn.functional as F

from tests.references._common import outer_loss, step

SETTINGS = {"steps": 3, "alpha": 0.6, "beta": 2.5, "noise": 0.2, "clean_twice": True}
PASSES = (13, 12, 2)  # forward, to inputs, to weights; per update at the defaults


def trades_loss(model, x_natural, y, step_size, epsilon, perturb_steps, beta, noise, clean_twice, norm):
    criterion_kl = torch.nn.KLDivLoss(reduction="sum")
    model.eval()
    x_adv = x_natural.detach() + noise * torch.randn(x_natural.shape, dtype=x_natural.dtype).detach()
    for _ in range(perturb_steps):
        x_adv.requires_grad_()
        with torch.enable_grad():
            loss_kl = criterion_kl(F.log_softmax(model(x_adv), dim=1), F.softmax(model(x_natural), dim=1))
        grad = torch.autograd.grad(loss_kl, [x_adv])[0]
        x_adv = step(x_adv, x_natural, grad, step_size, epsilon, norm)
    model.train()
    if not clean_twice:
        return outer_loss(model, x_natural, x_adv.detach(), y, beta)
    loss_natural = F.cross_entropy(model(x_natural), y)
    log_adv = F.log_softmax(model(x_adv.detach()), dim=1)
    return loss_natural + beta / len(y) * criterion_kl(log_adv, F.softmax(model(x_natural), dim=1))


def train(
    model,
    batches,
    *,
    eps,
    lr,
    momentum,
    weight_decay,
    steps=10,
    alpha=0.2258,
    beta=6.0,
    noise=0.0323,
    clean_twice=False,
    norm="linf",
):
    optimizer = torch.optim.SGD(model.parameters(), lr=lr, momentum=momentum, weight_decay=weight_decay)
    model.train()
    for x, y, _ in batches:
        optimizer.zero_grad()
        loss = trades_loss(model, x, y, alpha * eps, eps, steps, beta, noise * eps, clean_twice, norm)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
