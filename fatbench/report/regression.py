"""Checks: new results against those of a baseline, row by row, each within its limits or not."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from fatbench.errors import UsageError
from fatbench.report.aggregate import Row, aggregate
from fatbench.report.cells import status
from fatbench.report.comparison import one_per_seed
from fatbench.report.configuration import Configuration, Value, configuration, labels
from fatbench.report.doubts import NOISY
from fatbench.report.formats import duration, evaluation_title, percent
from fatbench.report.limits import TIME, Limit
from fatbench.report.loaded import Run
from fatbench.report.setting import Setting, settings_of
from fatbench.spec import short_name

_SOURCES = ("source", "model_source")  # code that has changed since is what a baseline is for
Outcome = Literal["ok", "FAIL", "skipped"]
_Key = tuple[Setting, tuple[tuple[str, Any], ...]]


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

    def __str__(self) -> str:
        metric = self.limit.metric
        title = "training time" if metric == TIME else evaluation_title(metric)
        numbers = f": {_value(metric, self.baseline)} -> {_value(metric, self.new)}" if self.new is not None else ""
        change = f", {self.change:+.3g}{self.limit.unit}" if self.change is not None else ""
        why = f" ({self.why})" if self.why else ""
        return f"{self.outcome:7} {title} of {self.row}{numbers}{change} (limit {self.limit}){why}"


def check(new: Sequence[Run], baseline: Sequence[Run], limits: Sequence[Limit]) -> list[Check]:
    """Return a check per limit and row: rows compare where setting and configuration agree, but for changed code.

    A row of the baseline that is missing now, or whose runs now fail, is a failure. A row that the baseline lacks is
    skipped, as is a metric that it lacks. Where nothing at all compares, every check is skipped.

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
    ours, theirs = _rows(new, baseline, limit.metric)
    shared = [key for key in theirs if key in ours]
    found = [_compared(theirs[key], ours[key], limit) for key in shared]
    found += [_check("skipped", row, limit, why=_apart(key, theirs)) for key, row in ours.items() if key not in theirs]
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
    change = limit.change(old, new)
    fewer = after.finished * len(before.seeds) < before.finished * len(after.seeds)
    noisy = NOISY if limit.metric == TIME and (NOISY in before.events or NOISY in after.events) else ""
    outcome: Outcome = "FAIL" if fewer or limit.broken(change) else "ok"
    return _check(outcome, after, limit, old, new, change, status(after) if fewer else noisy)


def _metric(row: Row, metric: str) -> float | None:
    """The mean over valid seeds, if there are any."""
    if metric == TIME:
        return row.train_seconds.mean if row.train_seconds else None
    return row.scores[metric].mean if row.finished and metric in row.scores else None


def _check(
    outcome: Outcome,
    row: Row,
    limit: Limit,
    baseline: float | None = None,
    new: float | None = None,
    change: float | None = None,
    why: str = "",
) -> Check:
    finite = change if change is not None and math.isfinite(change) else None
    return Check(outcome, limit, row.label, baseline, new, finite, why)


def _apart(key: _Key, theirs: Iterable[_Key]) -> str:
    """Why a row has no counterpart in the baseline: what sets it apart from its nearest one there."""
    alike = [vars(setting) for setting, content in theirs if content == key[1]]
    ours = vars(key[0])
    named = [name for name in ours if name not in ("epochs", "budget_seconds")]  # "budget" says the same
    differing = [[name for name in named if other[name] != ours[name]] for other in alike]
    nearest = min(differing, key=len, default=[])
    return f"in the baseline with another {', '.join(nearest)}" if nearest else "not in the baseline"


def _value(metric: str, value: float | None) -> str:
    return "nothing" if value is None else duration(value) if metric == TIME else f"{percent(value)}%"


def _rows(new: Sequence[Run], baseline: Sequence[Run], metric: str) -> tuple[dict[_Key, Row], dict[_Key, Row]]:
    """The rows of both sides by what must agree, named by what sets them apart."""
    both = [*new, *baseline]
    settings = settings_of([run.record for run in both])  # together: a run that failed early joins its baseline
    whole = [configuration(run.record) for run in both]
    parts = [_what_counts(one, metric) for one in whole]
    keys = [(setting, tuple(sorted(part.items()))) for setting, part in zip(settings, parts, strict=True)]
    unique = list(dict.fromkeys(keys))
    names = dict(zip(unique, labels([dict(key[1]) for key in unique]), strict=True))
    sides: list[dict[_Key, Row]] = []
    for side in (range(len(new)), range(len(new), len(both))):
        found: dict[_Key, dict[tuple[Value, ...], list[Run]]] = {}
        for k in side:
            found.setdefault(keys[k], {}).setdefault(_code(whole[k]), []).append(both[k])
        sides.append({key: _row(names[key], key[0], list(variants.values())) for key, variants in found.items()})
    return sides[0], sides[1]


def _row(label: str, setting: Setting, variants: Sequence[Sequence[Run]]) -> Row:
    record = variants[0][0].record
    where = f"{setting.dataset}, {setting.norm} eps {setting.eps}, {setting.budget}"
    name = f"{label} on {short_name(record.spec.model)}, {where}"
    if len(variants) > 1:
        raise UsageError(
            f"{len(variants)} versions of {name} in one set of files, by their code: compare one at a time"
        )
    return aggregate(name, configuration(record), one_per_seed(variants[0]))


def _code(one: Configuration) -> tuple[Value, ...]:
    return tuple(one.get(field) for field in _SOURCES)


def _what_counts(one: Configuration, metric: str) -> Configuration:
    """What must agree for a metric to compare: the code may differ, and so may what is evaluated besides."""
    if metric == TIME:
        return {key: value for key, value in one.items() if key not in _SOURCES and not key.startswith("eval")}
    others = (f"evaluations.{metric}", f"eval_precision.{metric}")
    return {
        key: value
        for key, value in one.items()
        if key not in _SOURCES and (not key.startswith(("evaluations.", "eval_precision.")) or key in others)
    }
