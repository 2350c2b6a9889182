"""Checks: new results against those of a baseline, row by row, each within its limits or not."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from fatbench.report.aggregate import Row
from fatbench.report.cells import status
from fatbench.report.counterparts import apart, counterparts
from fatbench.report.doubts import NOISY
from fatbench.report.formats import duration, evaluation_title, percent, sample_size
from fatbench.report.limits import TIME, Limit
from fatbench.report.loaded import Run

Outcome = Literal["ok", "FAIL", "skipped"]


class _Measured(NamedTuple):
    value: float
    images: tuple[int, int] | None = None  # the fewest and the most that a seed saw; of a time there are none


@dataclass(frozen=True)
class Check:
    """What became of one metric of one row since the baseline."""

    outcome: Outcome
    limit: Limit
    row: str
    baseline: float | None = None
    new: float | None = None
    change: float | None = None  # in the unit of the limit; None where it is infinite, too
    why: str = ""
    baseline_images: tuple[int, int] | None = None  # of the seed that saw the fewest, and the most; None: of times
    new_images: tuple[int, int] | None = None

    def __str__(self) -> str:
        metric = self.limit.metric
        title = "training time" if metric == TIME else evaluation_title(metric)
        both = [(self.baseline, self.baseline_images), (self.new, self.new_images)]
        if self.baseline_images == self.new_images:
            both[0] = self.baseline, None  # said once
        told = " -> ".join(_value(metric, value, images) for value, images in both)
        numbers = f": {told}" if self.new is not None else ""
        change = f", {self.change:+.3g}{self.limit.unit}" if self.change is not None else ""
        why = f" ({self.why})" if self.why else ""
        return f"{self.outcome:7} {title} of {self.row}{numbers}{change} (limit {self.limit}){why}"


def check(new: Sequence[Run], baseline: Sequence[Run], limits: Sequence[Limit]) -> list[Check]:
    """Return a check per limit and row: rows compare where setting and configuration agree, but for changed code.

    A row of the baseline that is missing now, whose runs now fail, or of which a valid seed is missing or invalid now,
    is a failure. A row that the baseline lacks is skipped, as is a metric that it lacks. Where nothing at all compares,
    every check is skipped.

    Raises:
        UsageError: the baseline holds two rows that a new one could be compared to.
    """
    return [one for limit in limits for one in _checks(new, baseline, limit)]


def nothing_compared(checks: Sequence[Check]) -> str:
    """Return why there was nothing to compare, in one line; "" where there was something."""
    if any(one.outcome != "skipped" for one in checks):
        return ""
    reasons = "; ".join(dict.fromkeys(f"{one.limit.metric}: {one.why}" for one in checks))
    return f"nothing to compare with the baseline ({reasons or 'it is empty'})"


def raw(checks: Iterable[Check]) -> list[dict[str, Any]]:
    """Return the checks as plain data."""
    return [vars(one) | {"metric": one.limit.metric, "limit": str(one.limit)} for one in checks]


def _checks(new: Sequence[Run], baseline: Sequence[Run], limit: Limit) -> list[Check]:
    ours, theirs = counterparts(new, baseline, limit.metric)
    shared = [key for key in theirs if key in ours]
    found = [_compared(theirs[key], ours[key], limit) for key in shared]
    found += [_check("skipped", row, limit, why=apart(key, theirs)) for key, row in ours.items() if key not in theirs]
    missing = [row for key, row in theirs.items() if key not in ours]
    if shared:
        found += [_check("FAIL", row, limit, why="in the baseline, but not among the new results") for row in missing]
    return found


def _compared(before: Row, after: Row, limit: Limit) -> Check:
    """A row that both have: a failure beyond the limit, or where only the new one has no number or has lost seeds."""
    old, new = _metric(before, limit.metric), _metric(after, limit.metric)
    if old is None:
        return _check("skipped", after, limit, why="the baseline has none of it")
    if new is None:
        return _check("FAIL", after, limit, old, why=status(after) if not after.finished else "not measured now")
    if limit.metric != TIME and before.scores[limit.metric].version != after.scores[limit.metric].version:
        return _check("skipped", after, limit, old, new, why="not the same attack as in the baseline")
    change = limit.change(old.value, new.value)
    lost = _lost(before, after, limit.metric)
    noisy = NOISY if limit.metric == TIME and (NOISY in before.events or NOISY in after.events) else ""
    outcome: Outcome = "FAIL" if lost or limit.broken(change) else "ok"
    return _check(outcome, after, limit, old, new, change, lost or noisy)


def _lost(before: Row, after: Row, metric: str) -> str:
    """Which seeds of the baseline count no more, and how the new ones ended where fewer of them are valid."""
    lost = sorted(_counting(before, metric) - _counting(after, metric))
    verb = "is" if len(lost) == 1 else "are"
    named = f"seed{'s' * (len(lost) > 1)} {', '.join(map(str, lost))} of the baseline {verb} missing or invalid"
    fewer = after.finished * len(before.seeds) < before.finished * len(after.seeds)
    return "; ".join([*[named] * bool(lost), *[status(after)] * fewer])


def _counting(row: Row, metric: str) -> set[int]:
    """The seeds that the mean is over."""
    valid = [run.record for run in row.runs if run.valid]
    return {record.spec.seed for record in valid if metric == TIME or metric in record.scores}


def _metric(row: Row, metric: str) -> _Measured | None:
    """The mean over valid seeds, if there are any."""
    if metric == TIME:
        return _Measured(row.train_seconds.mean) if row.train_seconds else None
    score = row.scores.get(metric) if row.finished else None
    return _Measured(score.mean, (score.images, score.most_images)) if score else None


def _check(
    outcome: Outcome,
    row: Row,
    limit: Limit,
    baseline: _Measured | None = None,
    new: _Measured | None = None,
    change: float | None = None,
    why: str = "",
) -> Check:
    finite = change if change is not None and math.isfinite(change) else None
    return Check(
        outcome,
        limit,
        row.label,
        baseline=baseline.value if baseline else None,
        new=new.value if new else None,
        change=finite,
        why=why,
        baseline_images=baseline.images if baseline else None,
        new_images=new.images if new else None,
    )


def _value(metric: str, value: float | None, images: tuple[int, int] | None) -> str:
    if value is None:
        return "nothing"
    seen = f" ({sample_size(*images)})" if images else ""
    return duration(value) if metric == TIME else f"{percent(value)}%{seen}"
