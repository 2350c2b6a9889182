"""Naive twin of `fgsm-uap`: `fgsm_one_uap.py` and `fgsm_class_uap.py` of fgsm_uap (reference/methods.md 2.17).

Two deviations, shared with fatbench: perturbations begin as zero, and labels are smoothed to an exact true-class mass.
"""

import torch

SETTINGS = {"alpha": 0.6, "uap_eps": 0.7, "decay": 0.8, "true_mass": 0.5, "weight": 2.5, "per_class": True}
PASSES = (2, 3, 2)  # forward, to inputs, to weights; per update at the defaults


def smoothed_cross_entropy(logits, labels, true_mass):
    classes, log_probs = logits.shape[1], torch.log_softmax(logits, dim=1)
    target = torch.full((len(labels), classes), (1 - true_mass) / (classes - 1), dtype=logits.dtype)
    for i in range(len(labels)):
        target[i, labels[i]] = true_mass
    return -(target * log_probs).sum(dim=1).mean()


def project(adv_images, images, eps):
    delta = torch.clamp(adv_images - images, min=-eps, max=eps)
    return torch.clamp(images + delta, min=0, max=1).detach()


def train(
    model,
    batches,
    *,
    eps,
    lr,
    momentum,
    weight_decay,
    alpha=1.0,
    uap_eps=1.25,
    decay=0.3,
    true_mass=0.6,
    weight=10.0,
    per_class=False,
):
    opt = torch.optim.SGD(model.parameters(), lr=lr, momentum=momentum, weight_decay=weight_decay)
    uaps, momenta, radius = {}, {}, uap_eps * eps  # by class, or all under 0
    model.train()
    for images, labels, _ in batches:
        nothing = torch.zeros_like(images[0])
        keys = labels.tolist() if per_class else [0] * len(images)
        uap_noise = torch.stack([uaps.get(key, nothing) for key in keys])
        adv_images = project(images + uap_noise, images, eps).requires_grad_()
        ori_output = model(adv_images)
        ori_loss = smoothed_cross_entropy(ori_output, labels, true_mass)
        ori_loss.backward(retain_graph=True)
        grad_x = adv_images.grad.detach()  # no copy: the loss's backward pass adds its gradient to this tensor
        adv_images = project(adv_images.detach() + alpha * eps * grad_x.sign(), images, eps)

        output = model(adv_images)
        loss = smoothed_cross_entropy(output, labels, true_mass)
        loss = loss + weight * torch.nn.MSELoss()(output, ori_output)
        opt.zero_grad()
        loss.backward()
        opt.step()

        cur_grad = grad_x / torch.norm(grad_x, p=1)
        for key in set(keys):
            mine = torch.stack([cur_grad[i] for i in range(len(images)) if keys[i] == key])
            momenta[key] = mine.mean(dim=0) + decay * momenta.get(key, nothing)
            moved = uaps.get(key, nothing) + radius * torch.sign(momenta[key])
            uaps[key] = torch.clamp(moved, -radius, radius)
