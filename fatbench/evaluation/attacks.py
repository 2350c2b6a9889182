"""Clean accuracy, FGSM and PGD: which images a model still gets right."""

from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from fatbench.evaluation.constraints import check_attack
from fatbench.evaluation.microbatch import Logits, in_chunks
from fatbench.ops import input_gradient_with
from fatbench.threat import Ball

PGD_ALPHA = 0.25  # in units of eps: the literature's 2/255 at eps 8/255


@torch.no_grad()
def is_correct(model: Logits, x: Tensor, y: Tensor) -> Tensor:
    """(B,) whether each image is classified as its label."""
    return _right(model(x), y)


def loss_gradient(model: Logits, x: Tensor, y: Tensor) -> Tensor:
    """The gradient of the cross-entropy at x, of x's shape: each image's own, as the losses are summed."""
    gradient, _ = _gradient_and_verdict(model, x, y)
    return gradient


def survives_fgsm(model: Logits, x: Tensor, y: Tensor, ball: Ball) -> Tensor:
    """(B,) whether each image is right, and still is after one step of eps up the cross-entropy, from the image itself.

    A weak attack, and worth having for that: a model that stands it and falls to PGD has overfitted to single steps.
    """
    gradient, right = _gradient_and_verdict(model, x, y)
    z = ball.step(x, gradient, 1.0, x)
    check_attack(z, x, ball, "FGSM")
    return right & is_correct(model, z, y)


def survives_pgd(
    model: Logits, x: Tensor, y: Tensor, ball: Ball, *, steps: int, restarts: int, at_once: int | None = None
) -> Tensor:
    """(B,) whether each image is still right after every step of every restart of PGD on the cross-entropy.

    Each restart starts at a random point of the ball; an image that has fallen once is attacked no more, so the result
    is the worst case over all points that the attack visited. `at_once` images go through the model together.
    """
    standing = in_chunks(at_once, partial(is_correct, model), x, y)
    for _ in range(restarts):
        start = ball.project(x + ball.sample(x), x)  # for all: an image's noise depends on no other image's fate
        standing = in_chunks(at_once, partial(_survives_restart, model, ball, steps), start, x, y, standing)
    return standing


def _survives_restart(
    model: Logits, ball: Ball, steps: int, start: Tensor, x: Tensor, y: Tensor, standing: Tensor
) -> Tensor:
    """(B,) which of the images that stand still do after one run of PGD from `start`."""
    alive = standing.nonzero().squeeze(1)
    z = start[alive]
    for _ in range(steps):
        if not len(alive):
            break
        gradient, right = _gradient_and_verdict(model, z, y[alive])
        alive, z, gradient = alive[right], z[right], gradient[right]
        z = ball.step(z, gradient, PGD_ALPHA, x[alive])
    if len(alive):
        check_attack(z, x[alive], ball, "PGD")
        alive = alive[is_correct(model, z, y[alive])]
    return torch.zeros_like(standing).index_fill_(0, alive, True)


def _gradient_and_verdict(model: Logits, z: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """The gradient of the cross-entropy at z, and (B,) whether z is classified as y: one forward serves both."""

    def loss(leaf: Tensor) -> tuple[Tensor, Tensor]:
        logits = model(leaf)
        return F.cross_entropy(logits, y, reduction="sum"), logits

    gradient, logits = input_gradient_with(loss, z)
    return gradient, _right(logits, y)


def _right(logits: Tensor, y: Tensor) -> Tensor:
    """(B,) whether the largest logit is the label's; a logit that is not finite is wrong."""
    return logits.argmax(1).eq(y) & logits.isfinite().all(1)
