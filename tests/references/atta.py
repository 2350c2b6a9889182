"""Naive twin of `atta`: `train_atta_cifar.py`, `adv_attack.py` and `adaptive_data_aug.py` of ATTA (methods.md 4).

One batch is a pass over the data here. What is carried is the perturbation of the padded image, where the script
carries the perturbed padded image: the same, as its natural images never change. Noise is drawn for every batch and
taken for those images that it has not seen since the last reset. The cross-entropy is a mean over the batch; the
script divides that mean by the batch size once more. Views are given one (pad, top, left, flip) an image.
"""

import torch
import torch.nn.functional as F

SETTINGS = {"steps": 2, "alpha": 0.3, "reset": 2.0, "noise": 0.2, "loss": "trades", "beta": 2.5}
PASSES = (2, 2, 1)  # forward, to inputs, to weights; per update at the defaults


def transform(padded, pad, top, left, flip):
    height, width = padded.shape[1] - 2 * pad, padded.shape[2] - 2 * pad
    cropped = padded[:, top : top + height, left : left + width].clone()
    return torch.flip(cropped, [2]) if flip else cropped


def inverse_transform(padded, image, pad, top, left, flip):
    height, width = padded.shape[1] - 2 * pad, padded.shape[2] - 2 * pad
    padded = padded.clone()
    padded[:, top : top + height, left : left + width] = torch.flip(image, [2]) if flip else image
    return padded


def get_adv_atta(model, x_natural, x_adv, y, step_size, epsilon, num_steps):
    model.eval()
    for _ in range(num_steps):
        x_adv.requires_grad_()
        grad = torch.autograd.grad(F.cross_entropy(model(x_adv), y), [x_adv])[0]
        x_adv = x_adv.detach() + step_size * torch.sign(grad.detach())
        x_adv = torch.min(torch.max(x_adv, x_natural - epsilon), x_natural + epsilon)
        x_adv = torch.clamp(x_adv, 0.0, 1.0)
    model.train()
    return x_adv


def train(
    model,
    batches,
    *,
    eps,
    lr,
    momentum,
    weight_decay,
    steps=1,
    alpha=0.4839,
    reset=10.0,
    noise=0.0323,
    loss="at",
    beta=6.0,
    views=None,
):
    optimizer = torch.optim.SGD(model.parameters(), lr=lr, momentum=momentum, weight_decay=weight_decay)
    model.train()
    perturbed = {}
    for epoch, (x, y, ids) in enumerate(batches):
        if epoch % max(round(reset), 1) == 0:
            perturbed.clear()
        view = [(0, 0, 0, False)] * len(x) if views is None else views[epoch]
        pad, rows = view[0][0], ids.tolist()
        drawn = noise * eps * torch.randn(*x.shape[:2], x.shape[2] + 2 * pad, x.shape[3] + 2 * pad, dtype=x.dtype)
        padded = [perturbed.get(row, drawn[i]) for i, row in enumerate(rows)]
        start = x + torch.stack([transform(image, *one) for image, one in zip(padded, view, strict=True)])

        x_adv = get_adv_atta(model, x, start, y, alpha * eps, eps, steps)
        optimizer.zero_grad()
        if loss == "at":
            total = F.cross_entropy(model(x_adv), y)
        else:
            nat_logits = model(x)
            criterion_kl = torch.nn.KLDivLoss(reduction="sum")
            robust = criterion_kl(F.log_softmax(model(x_adv), dim=1), F.softmax(nat_logits, dim=1)) / len(x)
            total = F.cross_entropy(nat_logits, y) + beta * robust
        total.backward()
        optimizer.step()
        for i, row in enumerate(rows):
            perturbed[row] = inverse_transform(padded[i], x_adv[i] - x[i], *view[i])
