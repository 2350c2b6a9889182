from typing import Literal

import torch.nn.functional as F
from torch import Tensor, nn

from fatbench.interface import Batch, Context, Losses
from fatbench.ops import input_gradient_with

REACH = 3.0  # of base n: noise and step add up, and are not projected


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

    An abnormal example is one whose loss the attack lowered: the sign of a distorted model, whose number explodes when
    it overfits catastrophically. The regulariser weighs how many there are, how far their loss fell, and how much
    further their outputs moved than those of the rest.

    Args:
        base: "rs", the attack of fgsm-rs, or "n", that of n-fgsm, each with the step size of its authors.
        lambda1: weight of the regulariser.
        lambda2: weight, therein, of the mean fall in loss; without effect while detach_ce.
        lambda3: weight, therein, of the mean squared change in logits beyond that of the normal examples.
        detach_ce: take the fall in loss for a constant, as the authors' code does.

    The weights are those of the authors' README for CIFAR-10 at eps 8/255 and base rs. For base n it has lambda2=1.5,
    lambda3=0.15; at eps 16/255 lambda2=7, lambda3=3.25 (rs) and lambda2=8.5, lambda3=1.5 (n).

    Passes: 2 forwards, 2 backwards to inputs, 1 to weights; two batch-norm updates (the attack runs in train mode).
    Differences: sums under masks replace the authors' selection of images, with the same result, and weight gradients
        are not computed in the attack. Label smoothing, if any, is of the loss that trains; which examples are abnormal
        and how far their loss fell is told by the plain one. Whether the paper differentiates lambda2's term could
        not be checked: detach_ce=false lets the loss after the step carry a gradient, the one before it never does.
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
    count, others = abnormal.sum(), (1.0 - abnormal).sum()
    mean_fall = (abnormal * (fall.detach() if detach_ce else fall)).sum() / count.clamp_min(1.0)
    mean_moved = (abnormal * moved).sum() / count.clamp_min(1.0)
    mean_moved_others = ((1.0 - abnormal) * moved.detach()).sum() / others.clamp_min(1.0)
    excess = (mean_moved - mean_moved_others).relu()
    share = count / len(y) * others.sign()  # no comparison, no regulariser, if all are abnormal
    regulariser = lambda1 * share * (lambda2 * mean_fall + lambda3 * excess)
    yield F.cross_entropy(logits, y, label_smoothing=ctx.smoothing) + regulariser
