"""Results of the evaluations of one set of weights, image by image, and those that an earlier process stored."""

from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fatbench.data.ranking import hash_priority
from fatbench.errors import UsageError
from fatbench.evaluation.eval_result import EvalResult
from fatbench.record import Record
from fatbench.record.parts import Finding, Score
from fatbench.record.samples import NOT_EVALUATED, Outcome, Samples, load_samples
from fatbench.runner.setup import EvalContext


@dataclass(frozen=True)
class SubsetResult:
    """One evaluation's result, and the test images that it is about."""

    rows: Tensor  # (n,) int64, on the CPU
    eval_result: EvalResult

    def only(self, rows: Tensor) -> EvalResult | None:
        """The result on the images `rows`, (m,) int64, alone; None if it was not about all of them."""
        order = self.rows.argsort()
        place = torch.searchsorted(self.rows[order], rows).clamp_max(len(order) - 1)
        mine = order[place]
        if not torch.equal(self.rows[mine], rows):
            return None
        return replace(self.eval_result, broken_by=self.eval_result.broken_by[mine])


@dataclass
class Results:
    """What the evaluations of one set of weights have come to, by name."""

    by_name: dict[str, SubsetResult] = field(default_factory=dict)
    contract: list[Finding] = field(default_factory=list)  # of the contract, before any evaluation

    @property
    def findings(self) -> list[Finding]:
        """What was found before the evaluations and in them."""
        inside = [(name, one) for name, result in self.by_name.items() for one in result.eval_result.findings]
        return [*self.contract, *(one.model_copy(update={"evaluation": name}) for name, one in inside)]

    def of(self, name: str, rows: Tensor) -> EvalResult | None:
        """What became of the images `rows`, (m,) int64, under that evaluation; None if it was not about all of them."""
        return self.by_name[name].only(rows) if name in self.by_name else None

    def samples(self, context: EvalContext) -> Samples:
        """The outcome of every test image that any evaluation was about, in the order of the test set."""
        rows = torch.from_numpy(np.unique(np.concatenate([one.rows.numpy() for one in self.by_name.values()])))
        images = context.dataset.x_test[rows.to(context.device)].cpu().numpy()
        labels = context.dataset.y_test[rows.to(context.device)].cpu().numpy()
        outcomes = {name: _outcome(subset_result, rows) for name, subset_result in self.by_name.items()}
        return Samples(hash_priority(images), labels.astype(np.int64), outcomes)


def stored_results(context: EvalContext, record: Record, samples: Path) -> dict[str, SubsetResult]:
    """Return the evaluations of the record that the file `samples` holds image by image, by name.

    What cannot be relied on is left out: the images are this dataset's, and the counts those of the record.
    """
    if not record.scores or not samples.exists():
        return {}
    try:
        kept = load_samples(samples)
    except UsageError:
        return {}
    scores = {name: score for name, score in record.scores.items() if name in kept.outcomes}
    rows = {name: _rows(context, name, score) for name, score in scores.items()}
    union = np.unique(np.concatenate([*rows.values(), np.empty(0, dtype=np.int64)]))
    images = context.dataset.x_test[torch.from_numpy(union).to(context.device)].cpu().numpy()
    if not len(union) or not np.array_equal(hash_priority(images), kept.hashes):
        return {}
    all_findings = record.diagnostics.findings if record.diagnostics else []
    found = {}
    for name, score in scores.items():
        findings = [one for one in all_findings if one.evaluation == name]
        result = _subset_result(kept.outcomes[name], score, rows[name], union, findings)
        if result.eval_result.score == score:
            found[name] = result
    return found


def _rows(context: EvalContext, name: str, score: Score) -> NDArray[np.int64]:
    """The test images that an evaluation was about, in the order in which it saw them."""
    growing = name in context.spec.eval.precision
    images = score.total if growing else context.spec.eval.evaluations.get(name)
    dataset = context.dataset
    rows: NDArray[np.int64] = (dataset.test_order[:images] if growing else dataset.test_subset(images)).cpu().numpy()
    return rows


def _subset_result(
    outcome: Outcome, score: Score, rows: NDArray[np.int64], union: NDArray[np.int64], findings: list[Finding]
) -> SubsetResult:
    eval_result = EvalResult(
        parts=outcome.parts,
        broken_by=torch.from_numpy(outcome.broken_by[np.searchsorted(union, rows)]),
        attack=dict(score.attack),
        seconds=score.seconds,
        part_seconds=dict(score.part_seconds),
        warnings=list(score.warnings),
        findings=findings,
    )
    return SubsetResult(torch.from_numpy(rows), eval_result)


def _outcome(subset_result: SubsetResult, rows: Tensor) -> Outcome:
    broken_by = np.full(len(rows), NOT_EVALUATED, dtype=np.int8)
    broken_by[torch.searchsorted(rows, subset_result.rows).numpy()] = subset_result.eval_result.broken_by.numpy()
    return Outcome(subset_result.eval_result.parts, broken_by)
