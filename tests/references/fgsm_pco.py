"""Naive twin of `fgsm-pco`: `FGSM-PCO.py` of the authors' FGSM-PCO (reference/methods.md 4).

The script draws perturbations for all images at once at the start; this one draws for every batch and takes what was
drawn for those images that it sees for the first time.
"""

import torch

from tests.references._common import clamp, label_smooth_loss, label_smoothing

SETTINGS = {"alpha": 0.7, "stretch": 1.2, "mse": 3.0, "true_mass": 0.8}
PASSES = (3, 4, 3)  # forward, to inputs, to weights; per update at the defaults


def train(model, batches, *, eps, lr, momentum, weight_decay, alpha=1.0, stretch=1.5, mse=10.0, true_mass=0.6):
    opt = torch.optim.SGD(model.parameters(), lr=lr, momentum=momentum, weight_decay=weight_decay)
    model.train()
    limit, step = torch.tensor(eps, dtype=torch.float64), alpha * eps
    mean_square = torch.nn.MSELoss()
    all_delta = {}
    for x, y, ids in batches:
        drawn = clamp(step * torch.sign(torch.zeros_like(x).uniform_(-eps, eps)), -limit, limit)
        rows = ids.tolist()
        delta = torch.stack([all_delta.get(row, drawn[i]) for i, row in enumerate(rows)])

        delta.requires_grad = True
        ori_output = model(x + delta)
        classes = ori_output.shape[1]
        target = label_smoothing(y, true_mass, classes)
        one_hot = torch.eye(classes, dtype=torch.float64)[y]
        confidence = (one_hot * torch.softmax(ori_output, dim=1)).sum(dim=1)
        confidence = (1 - confidence)[:, None, None, None]
        (grad,) = torch.autograd.grad(label_smooth_loss(ori_output, target), delta, retain_graph=True)

        delta_fgsm = clamp(delta.detach() + step * torch.sign(grad), -limit, limit)
        delta_fgsm = clamp(delta_fgsm, 0 - x, 1 - x)
        x_fgsm = x + stretch * delta_fgsm
        x_new = confidence * (x + delta.detach()) + (1 - confidence) * x_fgsm
        output = model(x_new)
        fgsm_output = model(x + delta_fgsm)
        gap = mean_square(fgsm_output, ori_output) - mean_square(fgsm_output, output)
        loss = label_smooth_loss(output, target) + mse * torch.abs(gap)
        opt.zero_grad()
        loss.backward()
        opt.step()
        for i, row in enumerate(rows):
            all_delta[row] = delta_fgsm[i]
