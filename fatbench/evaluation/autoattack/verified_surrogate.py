"""Trying stand-ins on images before one is trusted: networks come from strangers."""

from collections.abc import Callable

import torch
from torch import Tensor

from fatbench.environment import is_out_of_memory
from fatbench.errors import one_line
from fatbench.evaluation.autoattack.surrogate import Arithmetic, Surrogate, surrogate_kinds
from fatbench.models.classifier import Classifier
from fatbench.ops import input_gradient_with

# How far logits and input gradients may be from the model's, in units of their own length. ResNet-18 in bf16 is
# at 0.007 and 0.02 at most; a ReLU that turns changes a gradient, not a logit.
_LOGITS: dict[Arithmetic, float] = {"bf16": 0.03, "tf32": 0.01, "fp32": 0.001}
_GRADIENTS: dict[Arithmetic, float] = {"bf16": 0.2, "tf32": 0.1, "fp32": 0.02}


def trusted_surrogate(classifier: Classifier, x: Tensor) -> tuple[Surrogate | None, str]:
    """Return the fastest stand-in that answers as the classifier does on the images x (B, C, H, W); or None, and why.

    Raises:
        torch.OutOfMemoryError, RuntimeError, MemoryError: memory does not suffice for so many images.
    """
    truth, why_not = _answers(classifier, x), ""
    for kind in surrogate_kinds(x.device):
        try:
            surrogate = Surrogate(classifier, kind)
            with surrogate.arithmetic():
                found = _answers(surrogate, x)
        except Exception as error:  # a network of somebody else's may not be copied, or fail on bfloat16, in any way
            if is_out_of_memory(error):
                raise
            why_not = one_line(f"a copy of it fails ({type(error).__name__}: {error})")
            continue
        if all(map(_near, found, truth, (_LOGITS[kind.arithmetic], _GRADIENTS[kind.arithmetic]))):
            return surrogate, ""
        why_not = f"a copy of it answers otherwise in {kind}"
    return None, why_not


def _answers(model: Callable[[Tensor], Tensor], x: Tensor) -> tuple[Tensor, Tensor]:
    """Logits, less what they have in common, and each image's gradient of their squares' sum, which is smooth."""

    def length(leaf: Tensor) -> tuple[Tensor, Tensor]:
        logits = model(leaf)
        centred = logits - logits.mean(1, keepdim=True)
        return centred.square().sum(), centred

    gradient, logits = input_gradient_with(length, x)
    return logits, gradient


def _near(mine: Tensor, true: Tensor, slack: float) -> bool:
    return mine.shape == true.shape and bool(torch.linalg.vector_norm(mine - true) <= slack * true.norm())
