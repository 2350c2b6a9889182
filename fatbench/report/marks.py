"""Marks: which rows of a group stand out, and only where that is more than chance."""

from collections.abc import Sequence
from dataclasses import replace

from fatbench.errors import UsageError
from fatbench.report.aggregate import Row
from fatbench.report.outcomes import has_samples
from fatbench.report.pairs import pairs_of

_MOST_RUNS = 200  # whose outcomes are worth reading for a mark
_FEWEST_SEEDS = 2  # one seed each tells two sets of weights apart, which those of one method are often enough


def marked(rows: Sequence[Row], evaluation: str | None, *, timed: bool) -> tuple[list[Row], list[str]]:
    """Return the rows with their marks by `evaluation`, the strongest, and what kept the best one from being sought.

    Args:
        rows: of one group.
        evaluation: None: there is none.
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
        if row.train_seconds and evaluation in row.scores and not row.doubts
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
    if len(ranked) < 2 or ranked[0].doubts or sum(len(row.runs) for row in ranked) > _MOST_RUNS:
        return None
    if not all(has_samples(run) for row in ranked for run in row.runs if run.valid):
        return None
    first = ranked[0]
    if not all(pair.distinguishable for pair in pairs_of(ranked[:2], evaluation, ranked)):
        return None  # most often the runner-up settles it, and no other file need be read
    against = [pair for pair in pairs_of(ranked, evaluation) if pair.a is first or pair.b is first]
    return first if all(pair.distinguishable and pair.a is first for pair in against) else None
