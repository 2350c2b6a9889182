"""Whether a faster way to compute a classifier gives the same, tried on images before it is trusted."""

import copy
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from fatbench.errors import one_line
from fatbench.models.classifier import Classifier

_SEED = 0
_SLACK = {"fp32": 0.02, "bf16": 0.1}  # of the norm: what rounding may do, a ReLU that turns included

Answer = Callable[[Tensor], Tensor]  # (B, K) logits of (B, C, H, W) images in [0, 1]


class Outputs(NamedTuple):
    """What a model makes of some images."""

    logits: Tensor  # (B, K), less their mean: what they have in common decides nothing
    input_gradients: Tensor  # (B, C, H, W), of the mean square of these logits, which is smooth
    weight_gradients: Tensor  # flat; a single zero where no weights were asked for


class Tolerance(NamedTuple):
    """How far answers may be from the truth, in units of its norm."""

    logits: float
    gradients: float


def answers(model: Answer, x: Tensor, weights: Sequence[Tensor] = (), seed: int = _SEED) -> Outputs:
    """Return what the model makes of the images x, and the gradients of `weights`; random generators stay as they are.

    Raises:
        Exception: whatever the model raises.
    """
    devices = range(torch.cuda.device_count()) if x.is_cuda else ()  # all are seeded
    with torch.random.fork_rng(devices), torch.enable_grad():
        torch.manual_seed(seed)
        leaf = x.detach().clone().requires_grad_()
        logits = model(leaf)
        logits = logits - logits.mean(1, keepdim=True)
        gradients = torch.autograd.grad(logits.square().mean(), [leaf, *weights], allow_unused=True)
    flat = [
        torch.zeros_like(like) if gradient is None else gradient
        for gradient, like in zip(gradients, [leaf, *weights], strict=True)
    ]
    return Outputs(logits.detach(), flat[0], torch.cat([logits.new_zeros(1), *(one.flatten() for one in flat[1:])]))


def difference(found: Outputs, truth: Outputs, slack: Tolerance, usual: Outputs | None = None) -> str:
    """Return what of the answers found differs from the truth, "logits" or "gradients", or "".

    Args:
        found: the answers under test.
        truth: the right ones.
        slack: how far they may be from it.
        usual: answers in the same precision that are trusted; what is found may be twice as far from the truth.
    """
    names = ("logits", "gradients", "gradients")
    bounds = (slack.logits, slack.gradients, slack.gradients)
    for what, bound, mine, true, plain in zip(names, bounds, found, truth, usual or truth, strict=True):
        if mine.shape != true.shape:
            return what
        if not float((mine - true).norm()) <= 2 * float((plain - true).norm()) + bound * float(true.norm()):
            return what
    return ""


def mismatch(classifier: Classifier, build: Callable[[Classifier], Answer], x: Tensor, *, training: bool) -> str:
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
        found = answers(build(mine), x, _trained(mine))
        truth, usual = answers(exact, x, _trained(exact)), answers(plain, x, _trained(plain))
        # Random numbers, as dropout's, are not drawn in the same order.
        random = training and not torch.equal(usual.logits, answers(plain, x, seed=_SEED + 1).logits)
        slack = _SLACK[classifier.precision]
        worst = "" if random else difference(found, truth, Tolerance(slack, slack), usual)
    except Exception as error:  # the forward is a user's, and may do anything
        return one_line(f"{type(error).__name__}: {error}")
    finally:
        torch.backends.cudnn.benchmark = searching
    return worst and f"its {worst} differ"


def _trained(classifier: Classifier) -> list[Tensor]:
    """The weights that are trained; none in eval mode, which is for attacks."""
    return [weight for weight in classifier.parameters() if weight.requires_grad] if classifier.training else []
