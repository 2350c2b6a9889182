"""AutoAttack through pyautoattack, with everything around it that the library leaves to its user.

The library is the field's standard implementation (Croce & Hein, ICML 2020). Its attacks are run one at a time on the
images that still stand, with the standard parameters: verdicts are those of its own standard evaluation, bit for bit,
and each part's share is known. What is mended here: few classes (its targeted attacks assume ten), contiguous inputs,
time-seeded randomness, the debugger hook that it removes, and warnings that it only logs.
"""

import logging
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pyautoattack
import torch
from torch import Tensor

from fatbench.errors import InvalidRunError
from fatbench.evaluation.attacks import is_correct
from fatbench.evaluation.sitting import Advance, Sitting, Watch
from fatbench.models.classifier import Classifier
from fatbench.spec import EvalEngine
from fatbench.threat import Ball, Linf

VERSION = f"pyautoattack {pyautoattack.__version__}"
_STANDARD = ("apgd-ce", "apgd-t", "fab-t", "square")
_SQUARE_MARGIN = 0.002  # of the images, as in the library
_TARGETS = 9  # wrong classes that the standard's targeted attacks try


def parts_for(num_classes: int) -> tuple[tuple[str, ...], str]:
    """Return the attacks that make sense for so many classes, and what to call that selection.

    The targeted APGD uses the difference-of-logits ratio, which needs four classes; the untargeted one needs three.
    """
    if num_classes == 2:
        return ("apgd-ce", "fab-t", "square"), "custom(2 classes)"
    if num_classes == 3:
        return ("apgd-ce", "apgd-dlr", "fab-t", "square"), "custom(3 classes)"
    if num_classes <= _TARGETS:
        return _STANDARD, f"standard({num_classes - 1} targets)"
    return _STANDARD, "standard"


def run_autoattack(
    model: Classifier,
    x: Tensor,
    y: Tensor,
    ball: Ball,
    *,
    num_classes: int,
    seed: int,
    batch_size: int,
    watch: Watch,
    engine: EvalEngine = "exact",
    state: Path | None = None,
) -> Sitting:
    """Return what became of the images x (B, C, H, W) in [0, 1] with labels y."""
    attacks, version = parts_for(num_classes)
    parts = ("clean", *attacks)
    x = x.contiguous()
    _check_box(x, "the images")
    chunks = [slice(first, first + batch_size) for first in range(0, len(x), batch_size)]
    standing = torch.cat([is_correct(model, x[chunk], y[chunk]) for chunk in chunks])
    broken_by = torch.where(standing, 0, 1)
    seconds: dict[str, float] = {}
    with _library_contained() as warnings:
        for number, attack in enumerate(attacks, start=2):
            started = time.perf_counter()
            alive = standing.nonzero().squeeze(1)
            watch(Advance(len(x) - len(alive), len(x), attack))
            if len(alive):
                adversary = _adversary(model, ball, attack, num_classes, seed, x.device)
                x_adv, predicted = adversary.run_standard_evaluation(x[alive], y[alive], batch_size=batch_size)
                _check_constraints(x_adv, x[alive], ball)
                standing[alive] = predicted.eq(y[alive])
                broken_by[alive] = torch.where(standing[alive], 0, number)
            seconds[attack] = time.perf_counter() - started
    sitting = Sitting(
        parts=parts,
        broken_by=broken_by.to("cpu", torch.int8),
        attack={"version": version, "implementation": VERSION},
        part_seconds=seconds,
        warnings=warnings,
    )
    alarm = _square_beats_the_others(sitting.score.survivors, len(x))
    return replace(sitting, warnings=[*warnings, *alarm])


def _adversary(
    model: Classifier, ball: Ball, attack: str, num_classes: int, seed: int, device: torch.device
) -> pyautoattack.AutoAttack:
    """The library's evaluator, set to run one attack with the standard version's parameters."""
    norm = "Linf" if isinstance(ball, Linf) else "L2"
    adversary = pyautoattack.AutoAttack(model, norm=norm, eps=ball.eps, version="standard", seed=seed, device=device)
    adversary.attacks_to_run = [attack]
    adversary.apgd_targeted.n_target_classes = adversary.fab.n_target_classes = min(_TARGETS, num_classes - 1)
    return adversary


def _check_constraints(x_adv: Tensor, x: Tensor, ball: Ball) -> None:
    """Hold the library to its promise: a "break" outside ball or box would be none."""
    furthest = float(ball.distance(x_adv, x).max())
    if not furthest <= ball.eps * (1 + 1e-4) + 1e-6:
        raise InvalidRunError(f"AutoAttack moved an image by {furthest:.6g}, more than eps {ball.eps:.6g}")
    _check_box(x_adv, "AutoAttack's images")


def _check_box(x: Tensor, what: str) -> None:
    """The library clips to [0, 1] whatever it is given, so other inputs would be moved far beyond eps, silently."""
    low, high = float(x.min()), float(x.max())
    if not (low >= -1e-6 and high <= 1 + 1e-6):
        raise InvalidRunError(f"{what} span [{low:.3g}, {high:.3g}], not [0, 1]: normalise inside the model")


def _square_beats_the_others(survivors: dict[str, int], images: int) -> list[str]:
    """The library's own alarm, which it cannot raise when attacks run one at a time: a sign of masked gradients."""
    before, after = list(survivors.values())[-2:]
    if before - after <= _SQUARE_MARGIN * images:
        return []
    return [f"Square broke {before - after} of {images} images that the gradient attacks left: masked gradients?"]


@contextmanager
def _library_contained() -> Iterator[list[str]]:
    """Collect the library's warnings, each once, and keep the debugger's or coverage tool's trace function."""
    collected: list[str] = []

    class Collect(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            message = " ".join(record.getMessage().split())
            # "with only 3 classes ...": the choice of parts has seen to it
            if message not in collected and not message.startswith("with only"):
                collected.append(message)

    logger, handler, trace = logging.getLogger("auto-attack"), Collect(logging.WARNING), sys.gettrace()
    propagate = logger.propagate
    logger.addHandler(handler)
    logger.propagate = False
    try:
        yield collected
    finally:
        logger.removeHandler(handler)
        logger.propagate = propagate
        sys.settrace(trace)
