"""Naive twin of `liet`: `main.py` and `utils/custom_loss.py` of LIET (reference/methods.md 2.17).

Two deviations, shared with fatbench: a few classes' label information is renewed in every update, not every class's
in every tenth; and the weight of the consistency term rises with every update, not every epoch.
"""

import torch
import torch.nn.functional as F

SETTINGS = {"alpha": 0.6, "true_mass": 0.7, "weight": 20.0, "min_mask": 0.2, "max_mask": 0.9, "renewed": 2}
PASSES = (
    13 / 6,
    19 / 6,
    2,
)  # forward, to inputs, to weights; per update at the defaults: one grey image per six others


def custom_cross_entropy(logits, target, label_smoothing):
    """Non-uniform label smoothing: what the true class gives away goes to the others at random."""
    smooth_labels = torch.zeros_like(logits)
    rand_labels = torch.rand_like(logits)
    for i in range(len(target)):
        rand_labels[i, target[i]] = 0
        smooth_labels[i] = rand_labels[i] / rand_labels[i].sum() * label_smoothing
        smooth_labels[i, target[i]] = 1 - label_smoothing
    return (-smooth_labels * torch.log_softmax(logits, dim=-1)).sum(dim=-1).mean()


def train(
    model,
    batches,
    *,
    eps,
    lr,
    momentum,
    weight_decay,
    alpha=1.0,
    true_mass=0.4,
    weight=100.0,
    min_mask=0.1,
    max_mask=0.5,
    renewed=1,
):
    opt = torch.optim.SGD(model.parameters(), lr=lr, momentum=momentum, weight_decay=weight_decay)
    information, ls = None, 1 - true_mass
    for number, (images, labels, _) in enumerate(batches):
        model.eval()
        grey = torch.full((renewed, *images.shape[1:]), 0.5, dtype=images.dtype, requires_grad=True)
        output = model(grey)
        if information is None:
            information = torch.zeros(output.shape[1], *images.shape[1:], dtype=images.dtype)
        classes = torch.tensor([(number * renewed + i) % output.shape[1] for i in range(renewed)])
        grad = torch.autograd.grad(custom_cross_entropy(output, classes, ls), grey)[0]
        for i in range(renewed):
            information[classes[i]] = eps * torch.sign(grad[i])
        model.train()

        delta = information[labels].clone()
        bernoulli_idx = torch.rand_like(images)
        uniform_noise = torch.zeros_like(images).uniform_(-eps, eps)
        mask_ratio = torch.rand(1, dtype=images.dtype).item() * (max_mask - min_mask) + min_mask
        delta[bernoulli_idx < mask_ratio] = uniform_noise[bernoulli_idx < mask_ratio]
        if torch.rand(1, dtype=images.dtype).item() < 0.5:
            adv_images = torch.clamp(images - delta, 0, 1)
        else:
            adv_images = torch.clamp(images + delta, 0, 1)

        adv_images.requires_grad_()
        ori_output = model(adv_images)
        ori_loss = custom_cross_entropy(ori_output, labels, ls)
        grad = torch.autograd.grad(ori_loss, adv_images, retain_graph=True)[0]
        delta = torch.clamp(adv_images.detach() + alpha * eps * grad.sign() - images, min=-eps, max=eps)
        output = model(torch.clamp(images + delta, min=0, max=1))

        loss1 = custom_cross_entropy(output, labels, ls)
        p, q = F.softmax(ori_output, dim=1), F.softmax(output, dim=1)
        m = ((p + q) / 2).log()
        divergence = (F.kl_div(m, p, reduction="batchmean") + F.kl_div(m, q, reduction="batchmean")) / 2
        progress = torch.tensor(number / len(batches)).item()  # rounded to float32, as the trainer's is
        loss = loss1 + weight * progress * divergence
        opt.zero_grad()
        loss.backward()
        opt.step()
