"""One evaluation by name, as a Score: counts, seconds, and exactly what was run."""

import time
from collections.abc import Callable

import torch
from torch import Tensor

from fatbench.evaluation.attacks import PGD_ALPHA, is_correct, survives_pgd
from fatbench.evaluation.autoattack import VERSION, run_autoattack
from fatbench.evaluation.measuring import isolated_randomness, measuring
from fatbench.models.classifier import Classifier
from fatbench.record import Fact, Score
from fatbench.spec import PGD, parse_evaluation
from fatbench.threat import Ball

ATTACK_SEED = 0  # the same for every run: methods are compared under the same noise
BATCH_SIZE = 500  # part of what is run: attack noise is drawn batch by batch

Watch = Callable[[int, int, str], None]
"""Hears (images done, images in all, what is going on)."""


def evaluate(
    name: str, model: Classifier, x: Tensor, y: Tensor, ball: Ball, *, num_classes: int, watch: Watch
) -> Score:
    """Return the score of `model` under the evaluation `name` ("clean", "pgd-20", "pgd-50-10", "autoattack").

    Args:
        x: (N, C, H, W) images in [0, 1], on the model's device.
        y: (N,) labels.
        watch: called as the work goes on.
    """
    started = time.perf_counter()
    what = parse_evaluation(name)
    with measuring(model), isolated_randomness(ATTACK_SEED, x.device):
        if what == "autoattack":
            score = _autoattack(model, x, y, ball, num_classes, watch)
        else:
            score = _in_batches(model, x, y, ball, what, watch)
    return score.model_copy(update={"seconds": time.perf_counter() - started})


def _in_batches(model: Classifier, x: Tensor, y: Tensor, ball: Ball, what: PGD | str, watch: Watch) -> Score:
    correct = 0
    for first in range(0, len(x), BATCH_SIZE):
        watch(first, len(x), "")
        chunk = x[first : first + BATCH_SIZE], y[first : first + BATCH_SIZE]
        if isinstance(what, PGD):
            right = survives_pgd(model, *chunk, ball, steps=what.steps, restarts=what.restarts)
        else:
            right = is_correct(model, *chunk)
        correct += int(right.sum())
    if not isinstance(what, PGD):
        return Score(correct=correct, total=len(x))
    attack: dict[str, Fact] = {"steps": what.steps, "restarts": what.restarts, "alpha": PGD_ALPHA, "loss": "ce"}
    return Score(correct=correct, total=len(x), attack={**attack, **_common(ball)})


def _autoattack(model: Classifier, x: Tensor, y: Tensor, ball: Ball, num_classes: int, watch: Watch) -> Score:
    def hear(part: str, standing: int) -> None:
        watch(len(x) - standing, len(x), part)

    result = run_autoattack(
        model, x, y, ball, num_classes=num_classes, seed=ATTACK_SEED, batch_size=BATCH_SIZE, watch=hear
    )
    return Score(
        correct=int(result.standing.sum()),
        total=len(x),
        attack={"version": result.version, "implementation": VERSION, **_common(ball)},
        survivors=result.survivors,
        warnings=result.warnings,
    )


def _common(ball: Ball) -> dict[str, Fact]:
    return {
        "norm": type(ball).__name__.lower(),
        "eps": ball.eps,
        "seed": ATTACK_SEED,
        "batch_size": BATCH_SIZE,
        "tf32": torch.backends.cudnn.allow_tf32 and torch.cuda.is_available(),
    }
