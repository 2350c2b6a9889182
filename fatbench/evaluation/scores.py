"""One evaluation by name: which images a model gets right, and exactly what was run."""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from fatbench.data.loader import to_float
from fatbench.evaluation.attacks import PGD_ALPHA, is_correct, survives_fgsm, survives_pgd
from fatbench.evaluation.measuring import isolated_randomness, measuring
from fatbench.evaluation.sitting import Advance, Sitting, Watch, sitting_of
from fatbench.models.classifier import Classifier
from fatbench.record import Fact, Finding
from fatbench.spec import PGD, EvalEngine, parse_evaluation
from fatbench.threat import Ball

ATTACK_SEED = 0  # the same for every run, so that PGD starts from the same noise under every method


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
    engine: EvalEngine = "exact"  # of AutoAttack

    def sit(self, name: str, model: Classifier, watch: Watch, state: Path | None = None) -> Sitting:
        """What `model` makes of the evaluation `name` ("clean", "fgsm", "pgd-20", "pgd-50-10", "autoattack").

        Args:
            name: of the evaluation.
            model: put in eval mode and float32 meanwhile, and left as it was.
            watch: hears how far the evaluation is.
            state: where a long evaluation keeps what it has found; if it is there already, the evaluation goes on.

        Raises:
            InvalidRunError: images or attack leave what the threat model allows.
        """
        started = time.perf_counter()
        what = parse_evaluation(name)
        with measuring(model), isolated_randomness(ATTACK_SEED, self.x.device):
            if what == "autoattack":
                sitting = self._autoattack(model, watch, state)
            elif what == "clean":
                sitting = self._clean(model, watch)
            elif what == "fgsm":
                sitting = self._attacked(name, model, lambda x, y: survives_fgsm(model, x, y, self.ball), watch, {})
            else:
                sitting = self._pgd(name, what, model, watch)
        return sitting if sitting.seconds else replace(sitting, seconds=time.perf_counter() - started)

    def _clean(self, model: Classifier, watch: Watch) -> Sitting:
        finite: list[Tensor] = []

        def right(x: Tensor, y: Tensor) -> Tensor:
            logits = model(x)
            finite.append(logits.isfinite().all(1))
            verdict: Tensor = logits.argmax(1).eq(y) & finite[-1]
            return verdict

        with torch.no_grad():
            clean = self._verdicts(right, watch)
        odd = len(clean) - int(torch.cat(finite).sum())
        text = f"NaN or infinite logits for {odd} of {len(clean)} images, which count as wrong: the weights are damaged"
        findings = [Finding(code="non-finite-logits", detail=text)] if odd else []
        return Sitting(("clean",), torch.where(clean, 0, 1).to("cpu", torch.int8), findings=findings)

    def _pgd(self, name: str, what: PGD, model: Classifier, watch: Watch) -> Sitting:
        def survives(x: Tensor, y: Tensor) -> Tensor:
            return survives_pgd(model, x, y, self.ball, steps=what.steps, restarts=what.restarts)

        facts: dict[str, Fact] = {"steps": what.steps, "restarts": what.restarts, "alpha": PGD_ALPHA, "loss": "ce"}
        return self._attacked(name, model, survives, watch, facts)

    def _attacked(
        self,
        name: str,
        model: Classifier,
        survives: Callable[[Tensor, Tensor], Tensor],
        watch: Watch,
        facts: dict[str, Fact],
    ) -> Sitting:
        standing = self._verdicts(survives, watch)
        clean = self._verdicts(lambda x, y: is_correct(model, x, y), lambda _: None)
        return sitting_of(name, clean, standing, facts | self.facts)

    def _verdicts(self, verdict: Callable[[Tensor, Tensor], Tensor], watch: Watch) -> Tensor:
        """(N,) whom the verdict spares; images become float batch by batch, since all of them may not fit."""
        spared = []
        for first in range(0, len(self.x), self.batch_size):
            watch(Advance(first, len(self.x)))
            chunk = slice(first, first + self.batch_size)
            spared.append(verdict(to_float(self.x[chunk]), self.y[chunk]))
        return torch.cat(spared)

    def _autoattack(self, model: Classifier, watch: Watch, state: Path | None) -> Sitting:
        from fatbench.evaluation.autoattack import run_autoattack  # with a library that nothing else needs

        sitting = run_autoattack(
            model,
            to_float(self.x),
            self.y,
            self.ball,
            num_classes=self.num_classes,
            seed=ATTACK_SEED,
            batch_size=self.batch_size,
            watch=watch,
            engine=self.engine,
            state=state,
        )
        return replace(sitting, attack=sitting.attack | self.facts | sitting.attack)  # it may have taken larger batches

    @property
    def facts(self) -> dict[str, Fact]:
        """What every attack of this exam has in common, for the record."""
        return {
            "norm": type(self.ball).__name__.lower(),
            "eps": self.ball.eps,
            "seed": ATTACK_SEED,
            "batch_size": self.batch_size,
        }
