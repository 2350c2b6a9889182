"""One evaluation by name, as a Score: counts, seconds, and exactly what was run."""

import time
from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from fatbench.data.loader import to_float
from fatbench.evaluation.attacks import PGD_ALPHA, is_correct, survives_pgd
from fatbench.evaluation.measuring import isolated_randomness, measuring
from fatbench.models.classifier import Classifier
from fatbench.record import Fact, Score
from fatbench.spec import PGD, parse_evaluation
from fatbench.threat import Ball

ATTACK_SEED = 0  # the same for every run, so that PGD starts from the same noise under every method

Watch = Callable[[int, int, str], None]
"""Hears (images done, images in all, what is going on)."""


@dataclass(frozen=True)
class Exam:
    """What models are scored on: labelled images, a threat model, and how many images at a time.

    The batch size is part of what is run, as noise is drawn batch by batch.
    """

    x: Tensor  # (N, C, H, W) uint8, on the model's device
    y: Tensor  # (N,) int64
    num_classes: int
    ball: Ball
    batch_size: int

    def sit(self, name: str, model: Classifier, watch: Watch) -> Score:
        """The score of `model` under the evaluation `name` ("clean", "pgd-20", "pgd-50-10", "autoattack").

        Raises:
            InvalidRunError: images or attack leave what the threat model allows.
        """
        started = time.perf_counter()
        what = parse_evaluation(name)
        with measuring(model), isolated_randomness(ATTACK_SEED, self.x.device):
            if what == "autoattack":
                score = self._autoattack(model, watch)
            elif what == "clean":
                score = Score(correct=self._count(lambda x, y: is_correct(model, x, y), watch), total=len(self.x))
            else:
                score = self._pgd(model, what, watch)
        return score.model_copy(update={"seconds": time.perf_counter() - started})

    def _pgd(self, model: Classifier, what: PGD, watch: Watch) -> Score:
        def survives(x: Tensor, y: Tensor) -> Tensor:
            return survives_pgd(model, x, y, self.ball, steps=what.steps, restarts=what.restarts)

        return Score(
            correct=self._count(survives, watch),
            total=len(self.x),
            attack={"steps": what.steps, "restarts": what.restarts, "alpha": PGD_ALPHA, "loss": "ce", **self._facts},
        )

    def _count(self, verdict: Callable[[Tensor, Tensor], Tensor], watch: Watch) -> int:
        """How many images the verdict spares; they become float batch by batch, since all of them may not fit."""
        correct = 0
        for first in range(0, len(self.x), self.batch_size):
            watch(first, len(self.x), "")
            chunk = slice(first, first + self.batch_size)
            correct += int(verdict(to_float(self.x[chunk]), self.y[chunk]).sum())
        return correct

    def _autoattack(self, model: Classifier, watch: Watch) -> Score:
        from fatbench.evaluation.autoattack import VERSION, run_autoattack  # with a library that nothing else needs

        def hear(part: str, standing: int) -> None:
            watch(len(self.x) - standing, len(self.x), part)

        result = run_autoattack(
            model,
            to_float(self.x),
            self.y,
            self.ball,
            num_classes=self.num_classes,
            seed=ATTACK_SEED,
            batch_size=self.batch_size,
            watch=hear,
        )
        return Score(
            correct=int(result.standing.sum()),
            total=len(self.x),
            attack={"version": result.version, "implementation": VERSION, **self._facts},
            survivors=result.survivors,
            warnings=result.warnings,
        )

    @property
    def _facts(self) -> dict[str, Fact]:
        return {
            "norm": type(self.ball).__name__.lower(),
            "eps": self.ball.eps,
            "seed": ATTACK_SEED,
            "batch_size": self.batch_size,
        }
