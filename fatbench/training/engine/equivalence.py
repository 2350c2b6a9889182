"""Trying a faster way to compute a network on copies of it, before it is trusted: networks come from strangers."""

import copy
from collections.abc import Callable

import torch
from torch import Tensor

from fatbench.errors import one_line
from fatbench.models.classifier import Classifier

_SEED = 0
_SLACK = {"fp32": 0.02, "bf16": 0.1}  # of the norm: what rounding may do, a ReLU that turns included

Answer = Callable[[Tensor], Tensor]
Answers = tuple[Tensor, Tensor, Tensor]


def objection(classifier: Classifier, build: Callable[[Classifier], Answer], x: Tensor, *, training: bool) -> str:
    """Return what speaks against computing `classifier` as `build` does, or "" where it gives the same.

    Logits and gradients of copies are compared, on the images x and in train or eval mode. In bf16 both are held
    against float32: a way that is as far from it as autocast is as good.

    Args:
        classifier: left as it is.
        build: makes of a copy what would answer in its stead.
        x: (B, C, H, W) images.
        training: in train mode, where weights have gradients too; otherwise in eval mode, and for attacks only.
    """
    searching = torch.backends.cudnn.benchmark
    torch.backends.cudnn.benchmark = False  # a search for kernels would take seconds, for shapes that never come again
    try:
        exact, plain, mine = (copy.deepcopy(classifier).train(training) for _ in range(3))
        exact.precision = "fp32"
        found = _answers(mine, build(mine), x)
        truth, usual = _answers(exact, exact, x), _answers(plain, plain, x)
        # Random numbers, as dropout's, are not drawn in the same order.
        random = training and not torch.equal(usual[0], _answers(plain, plain, x, _SEED + 1)[0])
        worst = "" if random else _worst(found, usual, truth, _SLACK[classifier.precision])
    except Exception as error:  # strangers' forwards may do anything
        return one_line(f"{type(error).__name__}: {error}")
    finally:
        torch.backends.cudnn.benchmark = searching
    return worst and f"its {worst} would be others"


def _worst(found: Answers, usual: Answers, truth: Answers, slack: float) -> str:
    """Return what of the answers found is further from the truth than the usual ones can explain, or ""."""
    for what, mine, plain, true in zip(("logits", "gradients", "gradients"), found, usual, truth, strict=True):
        if not float((mine - true).norm()) <= 2 * float((plain - true).norm()) + slack * float(true.norm()):
            return what
    return ""


def _answers(classifier: Classifier, answer: Answer, x: Tensor, seed: int = _SEED) -> Answers:
    """Return logits, the images' gradient and the weights', flat and empty in eval mode, of some loss."""
    devices = range(torch.cuda.device_count()) if x.is_cuda else ()  # all are seeded
    with torch.random.fork_rng(devices), torch.enable_grad():
        torch.manual_seed(seed)
        leaf = x.detach().clone().requires_grad_()
        logits = answer(leaf)
        weights = [weight for weight in classifier.parameters() if weight.requires_grad] if classifier.training else []
        gradients = torch.autograd.grad(logits.square().mean(), [leaf, *weights], allow_unused=True)
    flat = [
        torch.zeros_like(like) if gradient is None else gradient
        for gradient, like in zip(gradients, [leaf, *weights], strict=True)
    ]
    return logits.detach(), flat[0], torch.cat([logits.new_zeros(1), *(one.flatten() for one in flat[1:])])
