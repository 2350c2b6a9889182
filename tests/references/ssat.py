"""Naive twin of `ssat`: `COAdvTrainer` of catastrophic-overfitting with torchattacks 2.12 (reference/methods.md 4).

torchattacks puts the model in eval mode while an attack runs, so the only train-mode forward is the loss's.
"""

import torch
import torch.nn.functional as F

SETTINGS = {"checkpoints": 5, "alpha": 0.7}
PASSES = (4, 2, 1)  # forward, to inputs, to weights; per update at the defaults


def ffgsm(model, images, labels, eps, alpha):
    adv_images = images + torch.zeros_like(images).uniform_(-eps, eps)
    adv_images = torch.clamp(adv_images, min=0, max=1).requires_grad_()
    outputs = model(adv_images)
    grad = torch.autograd.grad(F.cross_entropy(outputs, labels), adv_images)[0]
    adv_images = adv_images.detach() + alpha * grad.sign()
    delta = torch.clamp(adv_images - images, min=-eps, max=eps)
    return torch.clamp(images + delta, min=0, max=1), outputs.detach()


def smallest_that_fools(model, x, y, pert, c):
    """Try the checkpoints of one image from the nearest on; the full perturbation is taken untried."""
    for k in range(1, c):
        checkpoint = x + k * (pert / c)
        with torch.no_grad():
            if model(checkpoint.unsqueeze(0)).argmax(1).item() != y.item():
                return checkpoint
    return x + pert


def train(model, batches, *, eps, lr, momentum, weight_decay, checkpoints=3, alpha=1.25):
    opt = torch.optim.SGD(model.parameters(), lr=lr, momentum=momentum, weight_decay=weight_decay)
    for x, y, _ in batches:
        model.eval()
        x_adv, outputs = ffgsm(model, x, y, eps, alpha * eps)
        chosen = []
        for i in range(len(x)):
            if outputs[i].argmax() != y[i]:  # wrong at the noisy start already: trained on as it is
                chosen.append(x[i])
            else:
                chosen.append(smallest_that_fools(model, x[i], y[i], x_adv[i] - x[i], checkpoints))
        model.train()
        loss = F.cross_entropy(model(torch.stack(chosen)), y)
        opt.zero_grad()
        loss.backward()
        opt.step()
