"""What an earlier process has found of a candidate: evaluations that need not be repeated."""

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from fatbench.data.ranking import hash_priority
from fatbench.errors import UsageError
from fatbench.evaluation.sitting import Sitting
from fatbench.record import Finding, Record, Score
from fatbench.record.samples import Samples, load_samples
from fatbench.runner.bench import Candidate
from fatbench.runner.scoring import Sat


def remembered(candidate: Candidate, record: Record, samples: Path) -> dict[str, Sat]:
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
    rows = {name: _rows(candidate, name, score) for name, score in scores.items()}
    union = np.unique(np.concatenate([*rows.values(), np.empty(0, dtype=np.int64)]))
    images = candidate.dataset.x_test[torch.from_numpy(union).to(candidate.device)].cpu().numpy()
    if not len(union) or not np.array_equal(hash_priority(images), kept.hashes):
        return {}
    findings = record.diagnostics.findings if record.diagnostics else []
    found = {
        name: _sat(kept, name, scores[name], rows[name], union, [one for one in findings if one.evaluation == name])
        for name in scores
    }
    return {name: sat for name, sat in found.items() if sat.sitting.score == scores[name]}


def _rows(candidate: Candidate, name: str, score: Score) -> NDArray[np.int64]:
    """The test images that an evaluation was about, in the order in which it saw them."""
    growing = name in candidate.spec.eval_precision
    images = score.total if growing else candidate.spec.evaluations.get(name)
    dataset = candidate.dataset
    rows: NDArray[np.int64] = (dataset.test_order[:images] if growing else dataset.test_subset(images)).cpu().numpy()
    return rows


def _sat(
    kept: Samples,
    name: str,
    score: Score,
    rows: NDArray[np.int64],
    union: NDArray[np.int64],
    findings: list[Finding],
) -> Sat:
    outcome = kept.outcomes[name]
    sitting = Sitting(
        parts=outcome.parts,
        broken_by=torch.from_numpy(outcome.broken_by[np.searchsorted(union, rows)]),
        attack=dict(score.attack),
        seconds=score.seconds,
        part_seconds=dict(score.part_seconds),
        warnings=list(score.warnings),
        findings=findings,
    )
    return Sat(torch.from_numpy(rows), sitting)
