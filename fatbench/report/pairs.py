"""Pair: two rows of a group, put to a test on the same test images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import TYPE_CHECKING

from fatbench.report.aggregate import Row
from fatbench.report.loaded import Run
from fatbench.report.outcomes import Outcomes, matched, samples_of
from fatbench.report.significance import SeedSpread, Test, difference, holm, seed_spread

if TYPE_CHECKING:
    from fatbench.record.samples import Samples

SIGNIFICANT = 0.05
NO_OUTCOMES = "no per-image outcomes"


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
    return [run for run in row.runs if run.valid and evaluation in run.record.scores]


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
