"""Scoring: every evaluation that a spec names, each on its share of the test images, into the journal as it comes."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from fatbench.data.ranking import hash_priority
from fatbench.evaluation.sitting import Advance, Sitting, joined
from fatbench.record.samples import NOT_EVALUATED, Outcome, Samples
from fatbench.runner.bench import Candidate
from fatbench.runner.observer import Observer
from fatbench.statistics import wilson

FIRST_BLOCK = 200  # images that a growing evaluation begins with unless told


@dataclass(frozen=True)
class Sat:
    """One evaluation's sitting, and the test images that it was about."""

    rows: Tensor  # (n,) int64, on the CPU
    sitting: Sitting


@dataclass
class Results:
    """What the evaluations of one set of weights have come to, by name."""

    by_name: dict[str, Sat] = field(default_factory=dict)

    def samples(self, candidate: Candidate) -> Samples:
        """The outcome of every test image that any evaluation was about, in the order of the test set."""
        rows = torch.from_numpy(np.unique(torch.cat([sat.rows for sat in self.by_name.values()]).numpy()))
        images = candidate.dataset.x_test[rows.to(candidate.device)].cpu().numpy()
        labels = candidate.dataset.y_test[rows.to(candidate.device)].cpu().numpy()
        outcomes = {name: _outcome(sat, rows) for name, sat in self.by_name.items()}
        return Samples(hash_priority(images), labels.astype(np.int64), outcomes)


def sit_exams(
    candidate: Candidate,
    observer: Observer,
    state: Path,
    done: Callable[[str, Sat], None],
    known: Mapping[str, Sat] | None = None,
) -> Results:
    """Return what the candidate makes of every evaluation that its spec names.

    Args:
        candidate: the model, and what it is scored on.
        observer: hears how far the evaluations are.
        state: a folder in which long evaluations keep what they have found; what lies there is gone on from.
        done: hears of every evaluation that is complete.
        known: evaluations that need not be repeated.
    """
    results = Results(dict(known or {}))
    for name, images in candidate.spec.evaluations.items():
        if name in results.by_name:
            continue
        observer.stage(f"evaluating {name}")

        def watch(advance: Advance, name: str = name) -> None:
            observer.evaluating(name, advance)

        with candidate.clock.phase("evaluation"):
            results.by_name[name] = _sit(candidate, name, images, watch, state)
        observer.scored(name, results.by_name[name].sitting.score)
        done(name, results.by_name[name])
    return results


def _sit(candidate: Candidate, name: str, images: int | None, watch: Callable[[Advance], None], state: Path) -> Sat:
    """One evaluation: of a fixed number of images, or block by block until its interval is narrow enough."""
    dataset, precision = candidate.dataset, candidate.spec.eval_precision.get(name)
    if precision is None:
        rows = dataset.test_subset(images).cpu()
        return Sat(rows, candidate.exam(rows).sit(name, candidate.model, watch, state / f"{name}.npz"))
    sittings: list[Sitting] = []
    order = dataset.test_order.cpu()
    for block in _blocks(min(images or FIRST_BLOCK, len(order)), len(order)):
        exam = candidate.exam(order[block])
        sittings.append(exam.sit(name, candidate.model, watch, state / f"{name}-{block.stop}.npz"))
        score = joined(sittings).score
        low, high = wilson(score.correct, score.total)
        if 100 * (high - low) / 2 <= precision:
            break
    whole = joined(sittings)
    whole.attack["precision"] = precision
    return Sat(order[: len(whole.broken_by)], whole)


def _blocks(first: int, total: int) -> Iterator[slice]:
    """So many images, then as many again, and so on: each block doubles what has been seen."""
    seen = 0
    while seen < total:
        until = min(max(2 * seen, first), total)
        yield slice(seen, until)
        seen = until


def _outcome(sat: Sat, rows: Tensor) -> Outcome:
    broken_by = np.full(len(rows), NOT_EVALUATED, dtype=np.int8)
    broken_by[torch.searchsorted(rows, sat.rows).numpy()] = sat.sitting.broken_by.numpy()
    return Outcome(sat.sitting.parts, broken_by)
