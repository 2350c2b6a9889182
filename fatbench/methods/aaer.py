from typing import Literal

import torch.nn.functional as F
from torch import Tensor, nn

from fatbench.interface import Batch, Context, Losses
from fatbench.ops import input_gradient_with

REACH = 3.0  # of base n: noise and step add up, and are not projected
PASSES = {"forward": 2, "inputs": 2, "weights": 1, "batch_norm": 2}  # the attack runs in train mode


def aaer(
    model: nn.Module,
    batch: Batch,
    ctx: Context,
    *,
    base: Literal["rs", "n"] = "rs",
    lambda1: float = 1.0,
    lambda2: float = 2.5,
    lambda3: float = 1.5,
    detach_ce: bool = True,
) -> Losses:
    """AAER: single-step training that punishes steps by which a loss falls (Lin et al., NeurIPS 2023).

    An abnormal example is one whose loss the attack lowered: the mark of a distorted model, and frequent once it
    overfits catastrophically. The regulariser weighs how many there are, how far their loss fell, and how much further
    their outputs moved than those of the rest.

    Args:
        base: the attack, "rs" of fgsm-rs or "n" of n-fgsm, with the step size of its authors.
        lambda1: weight of the regulariser.
        lambda2: weight in it of the mean fall in loss; without effect while detach_ce (1.5 for base n).
        lambda3: weight in it of the mean squared change in logits beyond the normal examples' (0.15 for base n).
        detach_ce: take the fall in loss for a constant, as the authors' code does.

    The weights are the authors' README's for CIFAR-10 at eps 8/255; others at other eps (rs at 16/255: 1, 7, 3.25).

    Differences: masks replace the authors' selection of images, with the same result, and weight gradients are not
        computed in the attack. Label smoothing, if any, is of the loss that trains; the plain one tells which examples
        are abnormal. Whether the paper differentiates lambda2's term could not be checked: detach_ce=false lets the
        loss after the step carry a gradient, the one before it never does.
    """
    x, y, _ = batch
    noise, alpha = (1.0, 1.25) if base == "rs" else (2.0, 1.0)

    def loss(z: Tensor) -> tuple[Tensor, Tensor]:
        logits = model(z)
        return F.cross_entropy(logits, y, reduction="sum"), logits

    start = (x + ctx.ball.sample(x, noise)).clamp(0.0, 1.0)
    gradient, logits_before = input_gradient_with(loss, start)
    x_adv = ctx.ball.move(start, gradient, alpha).clamp(0.0, 1.0)
    if base == "rs":
        x_adv = ctx.ball.project(x_adv, x)

    logits = model(x_adv)
    fall = F.cross_entropy(logits_before, y, reduction="none") - F.cross_entropy(logits, y, reduction="none")
    moved = (logits - logits_before).square().sum(1)
    abnormal = (fall > 0).to(moved)
    normal = 1.0 - abnormal
    mean_fall = _mean(fall.detach() if detach_ce else fall, abnormal)
    excess = (_mean(moved, abnormal) - _mean(moved, normal).detach()).relu()
    share = abnormal.mean() * normal.amax()  # nought where all are abnormal: there is nothing to compare them with
    regulariser = lambda1 * share * (lambda2 * mean_fall + lambda3 * excess)
    yield F.cross_entropy(logits, y, label_smoothing=ctx.smoothing) + regulariser


def _mean(values: Tensor, among: Tensor) -> Tensor:
    """The mean of those values where `among` is 1, or 0 if it is nowhere."""
    return (among * values).sum() / among.sum().clamp_min(1.0)
