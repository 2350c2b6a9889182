"""What authors' scripts share, and the L2 geometry that most of them lack. Plain torch: nothing here is fatbench's."""

import torch
import torch.nn.functional as F


def clamp(x, lower_limit, upper_limit):
    return torch.max(torch.min(x, upper_limit), lower_limit)


def lengths(v):
    return torch.stack([torch.sqrt((image**2).sum()) for image in v]).view(-1, 1, 1, 1)


def random_start(x, radius, norm):
    """L2: a normal direction, of uniform length."""
    delta = torch.zeros_like(x)
    if norm == "linf":
        return delta.uniform_(-radius, radius)
    delta.normal_()
    r = torch.zeros(len(x), 1, 1, 1, dtype=x.dtype).uniform_(0, radius)
    return delta / lengths(delta) * r


def step(x_adv, x_natural, grad, step_size, epsilon, norm):
    """A step of TRADES' attack. L2: along the normalised gradient, then the box before the ball."""
    if norm == "linf":
        x_adv = x_adv.detach() + step_size * torch.sign(grad)
        x_adv = torch.min(torch.max(x_adv, x_natural - epsilon), x_natural + epsilon)
        return torch.clamp(x_adv, 0.0, 1.0)
    x_adv = x_adv.detach() + step_size * grad / lengths(grad)
    delta = torch.clamp(x_adv, 0.0, 1.0) - x_natural
    return x_natural + torch.where(lengths(delta) > epsilon, delta * epsilon / lengths(delta), delta)


def outer_loss(model, x_natural, x_adv, y, beta):
    """The loss of TRADES' weights."""
    logits, adv_logits = model(x_natural), model(x_adv)
    kl = F.kl_div(F.log_softmax(adv_logits, dim=1), F.softmax(logits, dim=1), reduction="sum") / len(y)
    return F.cross_entropy(logits, y) + beta * kl


def label_smoothing(label, factor, classes):
    one_hot = torch.eye(classes, dtype=torch.float64)[label]
    return one_hot * factor + (1 - one_hot) * (1 - factor) / (classes - 1)


def label_smooth_loss(input, target):
    return (-target * F.log_softmax(input, dim=-1)).sum(dim=-1).mean()
