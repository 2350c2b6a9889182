"""Scoring: every evaluation that a spec names, each on its share of the test images, into the journal as it comes."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from fatbench.data.loader import to_float
from fatbench.data.ranking import hash_priority
from fatbench.evaluation.contract import find_breaches
from fatbench.evaluation.portion import Portion
from fatbench.evaluation.sitting import Advance, Sitting, joined
from fatbench.record import Finding
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

    def only(self, rows: Tensor) -> Sitting | None:
        """The sitting as it would be on the images `rows`, (m,) int64, alone; None if it was not about all of them."""
        order = self.rows.argsort()
        place = torch.searchsorted(self.rows[order], rows).clamp_max(len(order) - 1)
        mine = order[place]
        if not torch.equal(self.rows[mine], rows):
            return None
        return replace(self.sitting, broken_by=self.sitting.broken_by[mine])


@dataclass
class Results:
    """What the evaluations of one set of weights have come to, by name."""

    by_name: dict[str, Sat] = field(default_factory=dict)
    breaches: list[Finding] = field(default_factory=list)  # of the contract, before any evaluation

    @property
    def findings(self) -> list[Finding]:
        """What was found before the evaluations and in them."""
        of_sittings = [(name, one) for name, sat in self.by_name.items() for one in sat.sitting.findings]
        return [*self.breaches, *(one.model_copy(update={"evaluation": name}) for name, one in of_sittings)]

    def of(self, name: str, rows: Tensor) -> Sitting | None:
        """What became of the images `rows`, (m,) int64, under that evaluation; None if it was not about all of them."""
        return self.by_name[name].only(rows) if name in self.by_name else None

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
    done: Callable[[str, Results], None],
    known: Mapping[str, Sat] | None = None,
) -> Results:
    """Return what the candidate makes of every evaluation that its spec names, its contract checked before the first.

    Args:
        candidate: the model, and what it is scored on.
        observer: hears how far the evaluations are.
        state: a folder in which long evaluations keep what they have found; what lies there is gone on from.
        done: hears of every evaluation that is complete, and what is known by then.
        known: evaluations that need not be repeated.

    Raises:
        InvalidRunError: model or images are such that no score would mean anything.
    """
    results = Results(dict(known or {}), look_for_breaches(candidate) if candidate.spec.evaluations else [])
    for name, images in candidate.spec.evaluations.items():
        if name in results.by_name:
            continue
        observer.stage(f"evaluating {name}")

        def watch(advance: Advance, name: str = name) -> None:
            observer.evaluating(name, advance)

        with candidate.clock.phase("evaluation"):
            results.by_name[name] = _sit(candidate, name, images, watch, state)
        observer.scored(name, results.by_name[name].sitting.score)
        done(name, results)
    return results


def look_for_breaches(candidate: Candidate) -> list[Finding]:
    """Return what the first batch of test images shows of the contract; the candidate stays as it was.

    Raises:
        InvalidRunError: no score would mean anything.
    """
    first, data = slice(candidate.spec.eval_batch_size), candidate.dataset
    x, y = to_float(data.x_test[first]), data.y_test[first]
    portion = Portion(len(y), candidate.device)

    def look(size: int) -> list[Finding]:
        return find_breaches(candidate.model, x[:size], y[:size], num_classes=data.num_classes, ball=candidate.ball)

    with candidate.clock.phase("evaluation"):
        return portion.judge(len(y), look)


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
    if 100 * (high - low) / 2 <= precision:
        whole.attack["precision"] = precision
    else:
        whole.warnings.append(f"all {len(order)} test images do not narrow the interval to {precision:g} points")
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
