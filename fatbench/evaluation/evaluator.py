"""One evaluation by name: which images a model gets right, and exactly what was run."""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path

import torch
from torch import Tensor

from fatbench.config.parsing import PGD, parse_evaluation
from fatbench.config.spec import EvalEngine
from fatbench.data.loader import to_float
from fatbench.evaluation.attacks import PGD_ALPHA, is_correct, survives_fgsm, survives_pgd
from fatbench.evaluation.eval_mode import eval_mode, isolated_rng
from fatbench.evaluation.eval_result import EvalProgress, EvalResult, Watch, attack_result
from fatbench.evaluation.microbatch import MicroBatch, in_chunks
from fatbench.models.classifier import Classifier
from fatbench.record.parts import Fact, Finding
from fatbench.threat import Ball

ATTACK_SEED = 0  # the same for every run, so that PGD starts from the same noise under every method
Look = Callable[[Tensor, Tensor, int], Tensor]  # at a batch of images and labels, so many of them at once


@dataclass(frozen=True)
class Evaluator:
    """What models are scored on: labelled images, a threat model, and how many images at a time.

    The batch size is part of what is run, as noise is drawn batch by batch. Out of memory, fewer images go through
    the model at once, but noise is drawn for as many as before: the score is the same.
    """

    x: Tensor  # (N, C, H, W) uint8, on the model's device
    y: Tensor  # (N,) int64
    num_classes: int
    ball: Ball
    batch_size: int
    engine: EvalEngine = "exact"  # of AutoAttack

    def evaluate(self, name: str, model: Classifier, watch: Watch, state: Path | None = None) -> EvalResult:
        """What `model` makes of the evaluation `name` ("clean", "fgsm", "pgd-20", "pgd-50-10", "autoattack").

        Args:
            model: put in eval mode and float32 meanwhile, and left as it was.
            state: where a long evaluation keeps what it has found; if it is there already, the evaluation resumes.

        Raises:
            InvalidRunError: images or attack leave what the threat model allows.
        """
        started = time.perf_counter()
        what = parse_evaluation(name)
        with eval_mode(model), isolated_rng(ATTACK_SEED, self.x.device):
            if what == "autoattack":
                eval_result = self._autoattack(model, watch, state)
            elif what == "clean":
                eval_result = self._clean(model, watch)
            elif what == "fgsm":
                fgsm = partial(survives_fgsm, model, ball=self.ball)
                eval_result = self._attacked(name, model, in_microbatches(fgsm), watch, {})
            else:
                eval_result = self._pgd(name, what, model, watch)
        eval_result = replace(eval_result, warnings=[*eval_result.warnings, *self.microbatch.warnings])
        return eval_result if eval_result.seconds else replace(eval_result, seconds=time.perf_counter() - started)

    @cached_property
    def microbatch(self) -> MicroBatch:
        """How many images have turned out to fit into memory at once."""
        return MicroBatch(self.batch_size, self.x.device)

    def _clean(self, model: Classifier, watch: Watch) -> EvalResult:
        def look(x: Tensor, y: Tensor) -> Tensor:
            logits = model(x)
            finite = logits.isfinite().all(1)
            return torch.stack([logits.argmax(1).eq(y) & finite, finite], dim=1)

        with torch.no_grad():
            clean, finite = self._verdicts(in_microbatches(look), watch).unbind(1)
        odd = len(clean) - int(finite.sum())
        text = f"NaN or infinite logits for {odd} of {len(clean)} images, which count as wrong: the weights are damaged"
        findings = [Finding(code="non-finite-logits", detail=text)] if odd else []
        return EvalResult(("clean",), torch.where(clean, 0, 1).to("cpu", torch.int8), findings=findings)

    def _pgd(self, name: str, what: PGD, model: Classifier, watch: Watch) -> EvalResult:
        def survives(x: Tensor, y: Tensor, size: int) -> Tensor:
            return survives_pgd(model, x, y, self.ball, steps=what.steps, restarts=what.restarts, at_once=size)

        facts: dict[str, Fact] = {"steps": what.steps, "restarts": what.restarts, "alpha": PGD_ALPHA, "loss": "ce"}
        return self._attacked(name, model, survives, watch, facts)

    def _attacked(
        self, name: str, model: Classifier, survives: Look, watch: Watch, facts: dict[str, Fact]
    ) -> EvalResult:
        standing = self._verdicts(survives, watch)
        clean = self._verdicts(in_microbatches(partial(is_correct, model)), lambda _: None)
        return attack_result(name, clean, standing, facts | self.facts)

    def _verdicts(self, look: Look, watch: Watch) -> Tensor:
        """(N, ...) what it sees in the images, which become float batch by batch, since all of them may not fit."""
        seen = []
        for first in range(0, len(self.x), self.batch_size):
            watch(EvalProgress(first, len(self.x)))
            x, y = to_float(self.x[first : first + self.batch_size]), self.y[first : first + self.batch_size]
            seen.append(self.microbatch.run(len(y), partial(look, x, y)))
        return torch.cat(seen)

    def _autoattack(self, model: Classifier, watch: Watch, state: Path | None) -> EvalResult:
        from fatbench.evaluation.autoattack import run_autoattack  # with a library that nothing else needs

        eval_result = run_autoattack(
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
            microbatch=self.microbatch,
        )
        return replace(
            eval_result, attack=eval_result.attack | self.facts | eval_result.attack
        )  # it may have taken larger batches

    @property
    def facts(self) -> dict[str, Fact]:
        """What all attacks of this evaluator have in common, for the record."""
        return {
            "norm": type(self.ball).__name__.lower(),
            "eps": self.ball.eps,
            "seed": ATTACK_SEED,
            "batch_size": self.batch_size,
        }


def in_microbatches(look: Callable[[Tensor, Tensor], Tensor]) -> Look:
    """Return a function that takes a batch in microbatches; an image's outcome must not depend on the others."""
    return lambda x, y, size: in_chunks(size, look, x, y)
