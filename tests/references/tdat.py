"""Naive twin of `tdat`: `TDAT.py` of TDAT (reference/methods.md 4).

The script's momentum is the perturbation itself, whatever --batch-m says: `delta = momentum` gives one tensor two
names, and the average is overwritten by delta besides. So it is with batch_momentum 0; otherwise the average is kept.
Four deviations, shared with fatbench: the perturbation begins as zero, labels relax with progress instead of epochs,
the true class never gets less than the others, and the 1.0000001 from which confidence is subtracted is 1.
"""

import torch
import torch.nn.functional as F

from tests.references._common import clamp

SETTINGS = {"alpha": 0.6, "batch_momentum": 0.75, "beta": 0.45, "floor": 0.35, "weight": 1.5}
PASSES = (2, 3, 2)  # forward, to inputs, to weights; per update at the defaults


def label_relaxation(label, factor, classes, dtype):
    one_hot = torch.eye(classes, dtype=dtype)[label]
    return one_hot * factor + (one_hot - 1.0) * ((factor - 1) / float(classes - 1))


def train(
    model, batches, *, eps, lr, momentum, weight_decay, alpha=1.0, batch_momentum=0.0, beta=0.6, floor=0.15, weight=0.6
):
    opt = torch.optim.SGD(model.parameters(), lr=lr, momentum=momentum, weight_decay=weight_decay)
    start = torch.zeros_like(batches[0][0])
    model.train()
    for number, (x, y, _) in enumerate(batches):
        progress = torch.tensor(number / len(batches)).item()  # rounded to float32, as the trainer's is
        delta = start.clone().requires_grad_()
        ori_output = model(x + delta)
        gamma = torch.tan(torch.tensor(1 - progress, dtype=x.dtype)).item() * beta
        gamma = max(gamma, floor, 1 / ori_output.shape[1])
        relaxed = label_relaxation(y, gamma, ori_output.shape[1], x.dtype)
        x_grad = torch.autograd.grad(nn_cross_entropy(ori_output, relaxed), delta, retain_graph=True)[0]
        delta = torch.clamp(delta.detach() + alpha * eps * torch.sign(x_grad), -eps, eps)
        delta = clamp(delta, 0 - x, 1 - x)
        start = batch_momentum * start + (1.0 - batch_momentum) * delta

        output = model(x + delta)
        loss_adv = nn_cross_entropy(output, label_relaxation_of_torch(y, 1.0 - gamma, output.shape[1], x.dtype))
        true_probs = torch.gather(F.softmax(ori_output, dim=1), 1, y.unsqueeze(1)).squeeze(1)
        squares = torch.sum(torch.square(ori_output - output), dim=1)
        loss = loss_adv + weight * torch.sum(squares * torch.tanh(1.0 - true_probs)) / len(x)
        opt.zero_grad()
        loss.backward()
        opt.step()


def nn_cross_entropy(logits, target):
    return -(target * torch.log_softmax(logits, dim=1)).sum(dim=1).mean()


def label_relaxation_of_torch(label, smoothing, classes, dtype):
    return torch.eye(classes, dtype=dtype)[label] * (1 - smoothing) + smoothing / classes
