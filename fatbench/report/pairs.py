"""Pair: two rows of a group, put to a test on the same test images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import TYPE_CHECKING

from fatbench.errors import UsageError
from fatbench.report.aggregate import Row
from fatbench.report.outcomes import Outcomes, has_samples, matched, samples_of
from fatbench.report.run import Run
from fatbench.report.significance import SeedSpread, Test, difference, holm, seed_spread

if TYPE_CHECKING:
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


def pairs_of(rows: Sequence[Row], evaluation: str, among: Sequence[Row] = ()) -> tuple[Pair, ...]:
    """Return every pair of `rows` under `evaluation`, the better one first.

    Only finished runs count, and only images that all of the pair's were tested on. p is adjusted for the number of
    pairs. How much seeds differ is seen in the rows `among` which these are; in themselves if there are no others.

    Raises:
        UsageError: outcomes are damaged, or of something else.
    """
    ordered = sorted(rows, key=lambda row: -row.scores[evaluation].mean if evaluation in row.scores else 1.0)
    outcomes, lines = _evidence(ordered, evaluation)
    seeds = [[run.record.scores[evaluation].accuracy for run in _valid(row, evaluation)] for row in among or rows]
    spread = seed_spread(seeds)
    raw = [
        _pair(ordered[i], ordered[j], evaluation, outcomes, (lines[i], lines[j]), spread)
        for i, j in combinations(range(len(ordered)), 2)
    ]
    return _adjusted(raw)


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


def _pair(
    a: Row,
    b: Row,
    evaluation: str,
    outcomes: Outcomes | None,
    lines: tuple[Sequence[int], Sequence[int]],
    spread: SeedSpread | None,
) -> Pair:
    obstacle = _obstacle(a, b, evaluation, lines)
    if obstacle or outcomes is None:
        return Pair(evaluation, a, b, obstacle=obstacle)
    standing = outcomes.standing([*lines[0], *lines[1]])
    if not standing.shape[1]:
        return Pair(evaluation, a, b, obstacle="no test image in common")
    first, second = standing[: len(lines[0])], standing[len(lines[0]) :]
    if first.mean() < second.mean():
        a, b, first, second = b, a, second, first
    found = difference(first, second, spread)
    return Pair(
        evaluation,
        a,
        b,
        images=standing.shape[1],
        difference=found.value,
        low=found.low,
        high=found.high,
        p=found.p,
        test=found.test,
    )


def _obstacle(a: Row, b: Row, evaluation: str, lines: tuple[Sequence[int], Sequence[int]]) -> str:
    lacking = [row for row in (a, b) if not _valid(row, evaluation)]
    if lacking:
        return "not evaluated on it" if all(row.finished for row in lacking) else "no valid run"
    versions = a.scores[evaluation].version, b.scores[evaluation].version
    if versions[0] != versions[1]:
        return "not the same attack"
    return "" if lines[0] and lines[1] else NO_OUTCOMES


def _adjusted(pairs: Sequence[Pair]) -> tuple[Pair, ...]:
    adjusted = iter(holm([pair.p for pair in pairs if pair.p is not None]))
    return tuple(pair if pair.p is None else replace(pair, p_adjusted=next(adjusted)) for pair in pairs)


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
    if not all(pair.distinguishable for pair in pairs_of(ranked[:2], evaluation, ranked)):
        return None  # most often the runner-up settles it, and no other file need be read
    against = [pair for pair in pairs_of(ranked, evaluation) if pair.a is first or pair.b is first]
    return first if all(pair.distinguishable and pair.a is first for pair in against) else None
