"""Pair: two rows of a group, put to a test on the same test images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import TYPE_CHECKING, NamedTuple

from fatbench.errors import UsageError
from fatbench.record.parts import OVERFITTING
from fatbench.report.aggregate import Row
from fatbench.report.outcomes import Outcomes, has_samples, matched, samples_of
from fatbench.report.run import Run
from fatbench.report.seed_variance import Observed, moderated, observe
from fatbench.report.significance import Difference, Needed, Test, difference, holm, least_p, needed

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from fatbench.record.samples import Samples

SIGNIFICANT = 0.05
NO_OUTCOMES = "no per-image outcomes"
_MOST_RUNS = 200  # whose outcomes are worth reading for a mark
_FEWEST_SEEDS = 2  # one seed each tells two sets of weights apart, which those of one method are often enough


@dataclass(frozen=True)
class Pair:
    """How much more accurate `a` is than `b` under an evaluation, with the 95% interval; or why nobody can say."""

    evaluation: str
    a: Row
    b: Row
    images: int = 0  # on which both were tested, by all their runs
    difference: float | None = None  # of fractions; never negative: `a` is the better one
    low: float | None = None
    high: float | None = None
    p: float | None = None
    p_adjusted: float | None = None  # for the number of pairs
    test: Test | None = None
    needed: Needed | None = None  # to tell them apart, where that was not possible
    obstacle: str = ""

    @property
    def distinguishable(self) -> bool:
        """Whether the difference is more than chance makes of it."""
        return self.p_adjusted is not None and self.p_adjusted < SIGNIFICANT

    @property
    def verdict(self) -> str:
        """The result in words; of one seed each it says that another seed may well undo it."""
        better = "A better (these weights)" if self.test == "mcnemar" else "A better"
        return self.obstacle or (better if self.distinguishable else "not distinguishable")


def pairs_of(rows: Sequence[Row], evaluation: str, *, vs: Row | None = None) -> tuple[Pair, ...]:
    """Return every pair of `rows` under `evaluation`, or every one with the row `vs`; the better one first.

    Only finished runs count, and only images that all of the pair's were tested on. p is adjusted for the number of
    pairs. How much seeds differ is seen in all the rows.

    Raises:
        UsageError: outcomes are damaged, or of something else.
    """
    ordered = sorted(rows, key=lambda row: -row.scores[evaluation].mean if evaluation in row.scores else 1.0)
    outcomes, lines = _evidence(ordered, evaluation)
    sides = [_Side(*one) for one in zip(ordered, lines, _seed_variances(ordered, outcomes, lines), strict=True)]
    wanted = [(a, b) for a, b in combinations(sides, 2) if vs is None or vs is a.row or vs is b.row]
    return _adjusted([_pair(a, b, evaluation, outcomes) for a, b in wanted])


class _Side(NamedTuple):
    """A row, its lines among the outcomes, and how likely each variance between its seeds is."""

    row: Row
    lines: range
    variance: NDArray[np.float64] | None


def _seed_variances(
    rows: Sequence[Row], outcomes: Outcomes | None, lines: Sequence[range]
) -> Sequence[NDArray[np.float64] | None]:
    """The moderated variance of each row; those that collapsed or are suspect do not speak for others."""
    if outcomes is None:
        return [None] * len(rows)
    sound = [not row.findings and OVERFITTING not in row.events for row in rows]
    seen = [
        observe(outcomes.standing(of), sound=good) if of else Observed(0.0, 0, 0.0)
        for of, good in zip(lines, sound, strict=True)
    ]
    return moderated(seen) or [None] * len(rows)


def _evidence(rows: Sequence[Row], evaluation: str) -> tuple[Outcomes | None, list[range]]:
    """The outcomes of all runs, and which of their lines are a row's: none where one of its runs kept none."""
    usable: list[Samples] = []
    ids: list[str] = []
    lines = []
    for row in rows:
        runs = _valid(row, evaluation)
        kept = [one for one in (samples_of(run, evaluation) for run in runs) if one is not None]
        if len(kept) < len(runs):
            kept = []
        lines.append(range(len(usable), len(usable) + len(kept)))
        usable += kept
        ids += [run.record.id for run in runs[: len(kept)]]
    return (matched(usable, evaluation, ids) if usable else None), lines


def _valid(row: Row, evaluation: str) -> list[Run]:
    return [run for run in row.runs if run.finished and evaluation in run.record.scores]


def _pair(a: _Side, b: _Side, evaluation: str, outcomes: Outcomes | None) -> tuple[Pair, Difference | None]:
    obstacle = _obstacle(a, b, evaluation)
    if obstacle or outcomes is None:
        return Pair(evaluation, a.row, b.row, obstacle=obstacle), None
    standing = outcomes.standing([*a.lines, *b.lines])
    if not standing.shape[1]:
        return Pair(evaluation, a.row, b.row, obstacle="no test image in common"), None
    first, second = standing[: len(a.lines)], standing[len(a.lines) :]
    if first.mean() < second.mean():
        a, b, first, second = b, a, second, first
    variances = None if a.variance is None or b.variance is None else (a.variance, b.variance)
    found = difference(first, second, variances)
    numbers = found.value, found.low, found.high, found.p
    return Pair(evaluation, a.row, b.row, found.images, *numbers, test=found.test), found


def _obstacle(a: _Side, b: _Side, evaluation: str) -> str:
    lacking = [side.row for side in (a, b) if not _valid(side.row, evaluation)]
    if lacking:
        return "not evaluated on it" if all(row.finished for row in lacking) else "no valid run"
    versions = a.row.scores[evaluation].version, b.row.scores[evaluation].version
    if versions[0] != versions[1]:
        return "not the same attack"
    return "" if a.lines and b.lines else NO_OUTCOMES


def _adjusted(pairs: Sequence[tuple[Pair, Difference | None]]) -> tuple[Pair, ...]:
    """The pairs with p adjusted, and what those need that are not told apart: at the strictest level of Holm's."""
    tested = [found for _, found in pairs if found is not None]
    adjusted = iter(holm([found.p for found in tested]))
    level = SIGNIFICANT / max(1, len(tested))
    return tuple(
        pair if found is None else _with_need(replace(pair, p_adjusted=next(adjusted)), found, level)
        for pair, found in pairs
    )


def _with_need(pair: Pair, found: Difference, level: float) -> Pair:
    return pair if pair.distinguishable else replace(pair, needed=needed(found, level))


def with_marks(rows: Sequence[Row], evaluation: str | None, *, timed: bool) -> tuple[list[Row], list[str]]:
    """Return the rows with their marks by `evaluation`, the strongest, and what kept the best one from being sought.

    Args:
        timed: whether training times differ by merit, as they do not under a time budget.
    """
    if evaluation is None:
        return list(rows), []
    optimal = _pareto(rows, evaluation) if timed and evaluation != "clean" else []
    try:
        best, notes = _best(rows, evaluation), []
    except UsageError as error:  # a table is worth having without its mark; --paired insists
        best, notes = None, [f"no row is marked as the best: {error}"]
    earned = {id(row) for row in optimal}
    return [
        replace(row, best=row is best, pareto=id(row) in earned) if row is best or id(row) in earned else row
        for row in rows
    ], notes


def _pareto(rows: Sequence[Row], evaluation: str) -> list[Row]:
    """The rows that no other dominates by the means, where there is more than one to choose from."""
    points = [
        (row.train_seconds.mean, -row.scores[evaluation].mean, row)
        for row in rows
        if row.train_seconds and evaluation in row.scores and not row.findings
    ]
    found: list[Row] = []
    last = (0.0, float("inf"))
    for seconds, loss, row in sorted(points, key=lambda point: point[:2]):
        if loss < last[1] or (seconds, loss) == last:
            found.append(row)
            last = (seconds, loss)
    return found if len(points) > 1 else []


def _best(rows: Sequence[Row], evaluation: str) -> Row | None:
    """The row that is distinguishable from every other, as far as all of them have seeds and kept their outcomes."""
    ranked = sorted((row for row in rows if evaluation in row.scores), key=lambda row: -row.scores[evaluation].mean)
    if not all(row.finished and row.scores[evaluation].seeds >= _FEWEST_SEEDS for row in ranked):
        return None
    if len(ranked) < 2 or ranked[0].findings or sum(len(row.runs) for row in ranked) > _MOST_RUNS:
        return None
    if not all(has_samples(run) for row in ranked for run in row.runs if run.finished):
        return None
    first = ranked[0]
    if not _may_differ(ranked[0], ranked[1], evaluation):
        return None  # most often the runner-up settles it, and no other file need be read
    against = [pair for pair in pairs_of(ranked, evaluation) if pair.a is first or pair.b is first]
    return first if all(pair.distinguishable and pair.a is first for pair in against) else None


def _may_differ(first: Row, second: Row, evaluation: str) -> bool:
    outcomes, (ours, theirs) = _evidence([first, second], evaluation)
    standing = outcomes.standing([*ours, *theirs]) if outcomes and ours and theirs else None
    if standing is None or not standing.shape[1]:
        return False
    return least_p(standing[: len(ours)], standing[len(ours) :]) < SIGNIFICANT
