"""Naive twin of `mart`: `mart.py` of MART (reference/methods.md 2.15).

L2 is not in the script: steps along the normalised gradient, then the box before the ball, as in trades.
"""

import torch
import torch.nn.functional as F

from tests.references._common import step

SETTINGS = {"steps": 3, "alpha": 0.6, "beta": 2.5, "noise": 0.2}
PASSES = (12, 12, 2)  # forward, to inputs, to weights; per update at the defaults


def mart_loss(model, x_natural, y, step_size, epsilon, perturb_steps, beta, noise, norm):
    model.eval()
    batch_size = len(x_natural)
    x_adv = x_natural.detach() + noise * torch.randn(x_natural.shape, dtype=x_natural.dtype).detach()
    for _ in range(perturb_steps):
        x_adv.requires_grad_()
        grad = torch.autograd.grad(F.cross_entropy(model(x_adv), y), [x_adv])[0]
        x_adv = step(x_adv, x_natural, grad, step_size, epsilon, norm)
    model.train()

    logits = model(x_natural)
    logits_adv = model(x_adv.detach())
    adv_probs = F.softmax(logits_adv, dim=1)
    nat_probs = F.softmax(logits, dim=1)
    total = 0.0
    for image in range(batch_size):
        true = int(y[image])
        wrong = max((k for k in range(adv_probs.shape[1]) if k != true), key=adv_probs[image].tolist().__getitem__)
        boosted = -torch.log(adv_probs[image, true]) - torch.log(1.0001 - adv_probs[image, wrong] + 1e-12)
        log_ratio = torch.log(nat_probs[image]) - torch.log(adv_probs[image] + 1e-12)
        divergence = torch.sum(nat_probs[image] * log_ratio)
        total = total + boosted + beta * divergence * (1.0000001 - nat_probs[image, true])
    return total / batch_size


def train(
    model, batches, *, eps, lr, momentum, weight_decay, steps=10, alpha=0.2258, beta=5.0, noise=0.0323, norm="linf"
):
    optimizer = torch.optim.SGD(model.parameters(), lr=lr, momentum=momentum, weight_decay=weight_decay)
    model.train()
    for x, y, _ in batches:
        loss = mart_loss(model, x, y, alpha * eps, eps, steps, beta, noise * eps, norm)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
