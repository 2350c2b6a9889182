"""The model contract, checked on one batch before evaluations: what scores need to mean anything."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from fatbench.errors import InvalidRunError
from fatbench.evaluation.constraints import ROUNDING, check_ball, check_images, check_labels, kind_of
from fatbench.evaluation.eval_mode import eval_mode, isolated_rng
from fatbench.models.classifier import Classifier, NotLogitsError
from fatbench.ops import input_gradient_with
from fatbench.record.parts import Finding
from fatbench.threat import Ball

_SEED = 0
_FLOAT_NOISE = 1e-4  # of the largest logit: what one and the same forward may differ by on a GPU
_KERNEL_NOISE = 1e-2  # likewise, where another batch size chooses other kernels


def contract_findings(model: Classifier, x: Tensor, y: Tensor, *, num_classes: int, ball: Ball) -> list[Finding]:
    """Return what the model breaks of the contract on images x (B, C, H, W) in [0, 1] with labels y (B,).

    The model's modes, buffers and gradients, and the random generators, are afterwards as they were.

    Raises:
        InvalidRunError: no score would mean anything: images outside [0, 1], labels that are none of the classes, an
            eps beyond the pixels' range, outputs that are not (B, num_classes) logits, a model without gradients.
    """
    check_images(x)
    check_labels(y, len(x), num_classes)
    check_ball(ball)
    with eval_mode(model), isolated_rng(_SEED, x.device), _buffers_kept(model) as before, torch.no_grad():
        logits = _logits(model, x, num_classes)
        stuck = _train_mode(model, before)
        gradient, again = _input_gradient(model, x, y, num_classes)
        alone = None if stuck else _logits(model, x[:1], num_classes)  # batches shrink; one image has no statistics
    found = [*stuck, *_non_finite(logits, gradient), *_softmax(logits), *_randomised(logits, again)]
    return found if found or alone is None else _batch_dependent(logits[:1], alone)


def _logits(model: Classifier, x: Tensor, num_classes: int) -> Tensor:
    try:
        logits: Tensor = model(x)
    except NotLogitsError as error:
        raise InvalidRunError(str(error)) from error
    if logits.shape != (len(x), num_classes) or not logits.is_floating_point():
        what = f"a batch of {len(x)} to {kind_of(logits)} of shape {tuple(logits.shape)}"
        raise InvalidRunError(f"the model maps {what}, expected float logits of shape ({len(x)}, {num_classes})")
    return logits


def _input_gradient(model: Classifier, x: Tensor, y: Tensor, num_classes: int) -> tuple[Tensor, Tensor]:
    """The gradient of the cross-entropy at x, of x's shape, and the logits."""

    def loss(leaf: Tensor) -> tuple[Tensor, Tensor]:
        logits = _logits(model, leaf, num_classes)
        if not logits.requires_grad:
            remedy = "take torch.no_grad(), inference_mode() and detach() out of its forward"
            raise InvalidRunError(f"the model's outputs carry no gradient, without which attacks are blind: {remedy}")
        return F.cross_entropy(logits, y, reduction="sum"), logits

    return input_gradient_with(loss, x)


@contextmanager
def _buffers_kept(model: Classifier) -> Iterator[dict[str, Tensor]]:
    """Copies of the buffers by name; whatever becomes of the buffers inside, afterwards they are equal to these."""
    before = {name: buffer.clone() for name, buffer in model.named_buffers()}
    try:
        yield before
    finally:
        for name, buffer in model.named_buffers():
            if name in before and buffer.shape == before[name].shape:
                buffer.copy_(before[name])


def _train_mode(model: Classifier, before: dict[str, Tensor]) -> list[Finding]:
    """What shows that the forward was not one of an evaluated model, though it was put in eval mode."""
    modules = [(name or "model", module) for name, module in model.named_modules() if module.training]
    if modules:
        name, module = modules[0]  # the outermost: train() reaches all that lies below
        what = f"{name} ({type(module).__name__}) is in train mode although the model was put in eval mode"
        return [Finding(code="train-mode", detail=f"{what}: call no train() in a forward, and override no eval()")]
    same = partial(torch.allclose, rtol=0.0, atol=0.0, equal_nan=True)
    moved = [name for name, buffer in model.named_buffers() if name in before and not same(buffer, before[name])]
    if moved:
        remedy = "in eval mode batch norm must use its running statistics, so pass training=self.training"
        return [Finding(code="train-mode", detail=f"a forward in eval mode changes the buffer {moved[0]}: {remedy}")]
    return []


def _non_finite(logits: Tensor, gradient: Tensor) -> list[Finding]:
    finite = logits.isfinite().all(1)
    bad, lost = int((~finite).sum()), int((finite & ~gradient.flatten(1).isfinite().all(1)).sum())
    found = []
    if bad:
        what = f"the logits of {bad} of {len(logits)} images are not finite, and such images count as wrong"
        detail = f"{what}: look for NaN weights, overflow or a division by zero"
        found.append(Finding(code="non-finite-logits", detail=detail))
    if lost:
        what = f"the gradients of {lost} of {len(logits)} images are not finite, so attacks cannot follow them"
        detail = f"{what}: look for a square root, logarithm or norm at zero"
        found.append(Finding(code="non-finite-gradients", detail=detail))
    return found


def _softmax(logits: Tensor) -> list[Finding]:
    rows = logits[logits.isfinite().all(1)]
    if not len(rows):
        return []
    bounded = bool((rows >= -ROUNDING).all()) and bool((rows <= 1 + ROUNDING).all())
    if not bounded or float((rows.sum(1) - 1).abs().max()) > 1e-3:
        return []
    remedy = "return logits, attacks need them (where a softmax saturates, gradients vanish)"
    return [Finding(code="softmax-outputs", detail=f"the outputs are probabilities: {remedy}")]


def _randomised(logits: Tensor, again: Tensor) -> list[Finding]:
    apart = _apart(logits, again)
    if apart <= _FLOAT_NOISE:
        return []
    what = f"two forwards of the same images differ by up to {apart:.2g} of the largest logit"
    remedy = "switch randomness off in eval mode, or scores are of chance and attacks follow noise"
    return [Finding(code="randomised-outputs", detail=f"{what}: {remedy}")]


def _batch_dependent(within: Tensor, alone: Tensor) -> list[Finding]:
    apart = _apart(within, alone)
    if apart <= _KERNEL_NOISE:
        return []
    what = f"an image's logits depend on the other images of its batch, by up to {apart:.2g} of the largest logit"
    remedy = "normalise by running statistics in eval mode (track_running_stats=True)"
    return [Finding(code="batch-dependent-outputs", detail=f"{what}: {remedy}")]


def _apart(a: Tensor, b: Tensor) -> float:
    """The largest difference, as a fraction of the largest logit; infinite where only one of the two is finite."""
    finite = a.isfinite()
    if not torch.equal(finite, b.isfinite()):
        return float("inf")
    if not bool(finite.any()):
        return 0.0
    return float((a - b)[finite].abs().max() / a[finite].abs().max().clamp_min(1e-12))
