"""Naive twin of `elle`: `loss` and `train` of core/utils/train.py of ELLE (reference/methods.md 2.13).

Two deviations, shared with fatbench: the script steps its optimiser twice on every batch's gradients, and runs a
train-mode forward of the clean images for its log.
"""

import torch
import torch.nn.functional as F

SETTINGS = {
    "alpha": 0.6,
    "noise": 1.5,
    "weight": 30.0,
    "adaptive": True,
    "peak": 50.0,
    "sensitivity": 0.5,
    "decay": 0.9,
}
PASSES = (5, 5, 4)  # forward, to inputs, to weights; per update at the defaults


def elle_loss(model, x, y, eps, alpha, noise):
    x_adv = x + torch.zeros_like(x).uniform_(-noise * eps, noise * eps)
    x_adv.requires_grad = True
    grads_input = torch.autograd.grad(F.cross_entropy(model(x_adv), y), x_adv)[0]
    x_adv = x_adv.detach() + alpha * eps * torch.sign(grads_input)
    loss = F.cross_entropy(model(x_adv), y)

    bs = len(x)
    x_ab = x.repeat([2, 1, 1, 1])
    x_ab = x_ab + torch.zeros_like(x_ab).uniform_(-eps, eps)
    c = torch.rand([bs, 1, 1, 1], dtype=x.dtype)
    x_c = (1 - c) * x_ab[:bs] + c * x_ab[bs:]
    c = c.view(bs)
    losses = F.cross_entropy(model(torch.cat((x_ab, x_c), dim=0)), y.repeat([3]), reduction="none")
    lin_err = torch.nn.MSELoss()(losses[2 * bs :], (1 - c) * losses[:bs] + c * losses[bs : 2 * bs])
    return loss, lin_err


def train(
    model,
    batches,
    *,
    eps,
    lr,
    momentum,
    weight_decay,
    alpha=1.0,
    noise=0.0,
    weight=1000.0,
    adaptive=False,
    peak=4000.0,
    sensitivity=2.0,
    decay=0.99,
):
    opt = torch.optim.SGD(model.parameters(), lr=lr, momentum=momentum, weight_decay=weight_decay)
    model.train()
    lin_reg, elle_values = 0.0 if adaptive else weight, []
    for x, y, _ in batches:
        loss, lin_err = elle_loss(model, x, y, eps, alpha, noise)
        opt.zero_grad()
        (loss + lin_reg * lin_err).backward()
        opt.step()
        if adaptive:
            found = torch.tensor(elle_values, dtype=torch.float64)
            if len(found) > 2 and lin_err.item() > found.mean() + sensitivity * found.std(unbiased=False):
                lin_reg = peak
            else:
                lin_reg *= decay
            elle_values.append(lin_err.item())
    return lin_reg
