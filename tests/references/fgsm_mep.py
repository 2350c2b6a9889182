"""Naive twin of `fgsm-mep`: `FGSM_MEP.py` of FGSM-PGI (reference/methods.md 2.8).

One batch is a pass over the data here. The script draws new perturbations for all images at once when it resets;
this one draws for every batch and takes what was drawn for those images that it has not seen since the last reset.
"""

import torch

from tests.references._common import clamp, label_smooth_loss, label_smoothing

SETTINGS = {"alpha": 0.7, "decay": 0.6, "reset": 2.0, "mse": 3.0, "true_mass": 0.8}
PASSES = (2, 3, 2)  # forward, to inputs, to weights; per update at the defaults


def train(
    model, batches, *, eps, lr, momentum, weight_decay, alpha=1.0, decay=0.3, reset=40.0, mse=10.0, true_mass=0.6
):
    opt = torch.optim.SGD(model.parameters(), lr=lr, momentum=momentum, weight_decay=weight_decay)
    model.train()
    limit, step = torch.tensor(eps, dtype=torch.float64), alpha * eps
    all_delta, all_momentum = {}, {}
    for epoch, (x, y, ids) in enumerate(batches):
        if epoch % max(round(reset), 1) == 0:
            all_delta.clear()
            all_momentum.clear()
        drawn = clamp(step * torch.sign(torch.zeros_like(x).uniform_(-eps, eps)), -limit, limit)
        rows = ids.tolist()
        delta = torch.stack([all_delta.get(row, drawn[i]) for i, row in enumerate(rows)])
        mean = torch.stack([all_momentum.get(row, torch.zeros_like(x[i])) for i, row in enumerate(rows)])

        delta.requires_grad = True
        ori_output = model(x + delta)
        target = label_smoothing(y, true_mass, ori_output.shape[1])
        (grad,) = torch.autograd.grad(label_smooth_loss(ori_output, target), delta, retain_graph=True)
        mean = grad / torch.norm(grad, p=1) + mean * decay
        next_delta = clamp(delta.detach() + step * torch.sign(mean), -limit, limit)
        next_delta = clamp(next_delta, 0 - x, 1 - x)
        delta = clamp(delta.detach() + step * torch.sign(grad), -limit, limit)
        delta = clamp(delta, 0 - x, 1 - x)

        output = model(x + delta)
        loss = label_smooth_loss(output, target) + mse * ((output - ori_output) ** 2).mean()
        opt.zero_grad()
        loss.backward()
        opt.step()
        for i, row in enumerate(rows):
            all_delta[row], all_momentum[row] = next_delta[i], mean[i]
