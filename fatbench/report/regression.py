"""Checks: new results against those of a baseline, row by row, each within its limits or not."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from fatbench.config.spec import short_name
from fatbench.errors import UsageError
from fatbench.report.aggregate import Row, aggregate, status
from fatbench.report.comparison import one_per_seed
from fatbench.report.configuration import Configuration, Value, configuration, labels
from fatbench.report.formats import duration, evaluation_title, percent, sample_size
from fatbench.report.run import Run
from fatbench.report.setting import Setting, settings_of
from fatbench.report.thresholds import TIME, Threshold
from fatbench.report.validity import NOISY

Outcome = Literal["ok", "FAIL", "inconclusive", "skipped"]
Key = tuple[Setting, tuple[tuple[str, Value], ...]]
_SOURCES = ("source", "model_source")  # code that has changed since is what a baseline is for
_NAMED = 4  # differences in a message


class _Measured(NamedTuple):
    value: float
    images: tuple[int, int] | None = None  # the fewest and the most that a seed saw; of a time there are none


@dataclass(frozen=True)
class Check:
    """What became of one metric of one row since the baseline."""

    outcome: Outcome
    limit: Threshold
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
        values = " -> ".join(_value(metric, value, images) for value, images in both)
        numbers = f": {values}" if self.new is not None else ""
        change = f", {self.change:+.3g}{self.limit.unit}" if self.change is not None else ""
        why = f" ({self.why})" if self.why else ""
        return f"{self.outcome:7} {title} of {self.row}{numbers}{change} (limit {self.limit}){why}"


def check(new: Sequence[Run], baseline: Sequence[Run], limits: Sequence[Threshold]) -> list[Check]:
    """Return a check per limit and row: rows compare where setting and configuration agree, but for changed code.

    A row of the baseline that is missing now, whose runs now fail, or of which a valid seed is missing or invalid now,
    is a failure. A row that the baseline lacks is skipped, as is a metric that it lacks. Where nothing at all compares,
    every check is skipped. A time beyond its limit is inconclusive where the run was noisy, or the baseline's.

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


def _checks(new: Sequence[Run], baseline: Sequence[Run], limit: Threshold) -> list[Check]:
    ours, theirs = match_rows(new, baseline, limit.metric)
    shared = [key for key in theirs if key in ours]
    found = [_compared(theirs[key], ours[key], limit) for key in shared]
    found += [
        _check("skipped", row, limit, why=why_unmatched(key, theirs, limit.metric))
        for key, row in ours.items()
        if key not in theirs
    ]
    if shared:
        missing = [(key, row) for key, row in theirs.items() if key not in ours]
        found += [_check("FAIL", row, limit, why=_why_missing(key, ours, limit.metric)) for key, row in missing]
    return found


def _compared(before: Row, after: Row, limit: Threshold) -> Check:
    """A row that both have: a failure beyond the limit, or where only the new one has no number or has lost seeds."""
    old, new = _metric(before, limit.metric), _metric(after, limit.metric)
    if old is None:
        nowhere = new is None and after.finished
        return _check("skipped", after, limit, why="not measured on either side" if nowhere else _unmeasured(before))
    if new is None:
        return _check("FAIL", after, limit, old, why=status(after) if not after.finished else "not measured now")
    if limit.metric != TIME and before.scores[limit.metric].version != after.scores[limit.metric].version:
        return _check("skipped", after, limit, old, new, why="not the same attack as in the baseline")
    change = limit.change(old.value, new.value)
    lost = _lost(before, after, limit.metric)
    noisy = _noisy(before, after) if limit.metric == TIME else ""
    beyond: Outcome = "inconclusive" if noisy else "FAIL"
    outcome: Outcome = "FAIL" if lost else beyond if limit.broken(change) else "ok"
    return _check(outcome, after, limit, old, new, change, lost or noisy)


def _unmeasured(before: Row) -> str:
    return "not measured in the baseline" if before.finished else f"no valid run in the baseline: {status(before)}"


def _noisy(before: Row, after: Row) -> str:
    """Which side's times are not to be relied on."""
    sides = {"the baseline": NOISY in before.events, "this run": NOISY in after.events}
    named = [side for side, is_noisy in sides.items() if is_noisy]
    return f"{' and '.join(named)} {'were' if len(named) > 1 else 'was'} noisy" if named else ""


def _lost(before: Row, after: Row, metric: str) -> str:
    """Which seeds of the baseline count no more, and how the new ones ended where fewer of them are valid."""
    lost = sorted(_counting(before, metric) - _counting(after, metric))
    verb = "is" if len(lost) == 1 else "are"
    named = f"seed{'s' * (len(lost) > 1)} {', '.join(map(str, lost))} of the baseline {verb} missing or invalid"
    fewer = after.finished * len(before.seeds) < before.finished * len(after.seeds)
    return "; ".join([*[named] * bool(lost), *[status(after)] * fewer])


def _counting(row: Row, metric: str) -> set[int]:
    """The seeds that the mean is over."""
    valid = [run.record for run in row.runs if run.finished]
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
    limit: Threshold,
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


def match_rows(new: Sequence[Run], baseline: Sequence[Run], metric: str) -> tuple[dict[Key, Row], dict[Key, Row]]:
    """Return the rows of both sides by what must agree for `metric` to compare, named by what sets them apart.

    Raises:
        UsageError: one side holds two versions of a row.
    """
    both = [*new, *baseline]
    settings = settings_of([run.record for run in both])  # together: a run that failed early joins its baseline
    whole = [configuration(run.record) for run in both]
    parts = [_what_counts(one, metric) for one in whole]
    keys = [(setting, tuple(sorted(part.items()))) for setting, part in zip(settings, parts, strict=True)]
    unique = list(dict.fromkeys(keys))
    names = dict(zip(unique, labels([dict(key[1]) for key in unique]), strict=True))
    sides: list[dict[Key, Row]] = []
    for side in (range(len(new)), range(len(new), len(both))):
        found: dict[Key, dict[tuple[Value, ...], list[Run]]] = {}
        for k in side:
            found.setdefault(keys[k], {}).setdefault(_code(whole[k]), []).append(both[k])
        sides.append({key: _row(names[key], key[0], list(variants.values())) for key, variants in found.items()})
    return sides[0], sides[1]


def why_unmatched(key: Key, theirs: Iterable[Key], metric: str) -> str:
    """Return why a row has no counterpart in the baseline: what sets it apart from its nearest one there."""
    nearest = _nearest(key, theirs)
    evaluated = _otherwise_evaluated(nearest, metric)
    if evaluated or not 0 < len(nearest) <= _NAMED:
        return evaluated or "the baseline has no such row"
    return f"in the baseline with another {', '.join(name.removeprefix('hyper.') for name in nearest)}"


def _why_missing(key: Key, ours: Iterable[Key], metric: str) -> str:
    swapped = {name: (now, then) for name, (then, now) in _nearest(key, ours).items()}
    return _otherwise_evaluated(swapped, metric) or "the baseline has this row, the new results do not"


def _otherwise_evaluated(differences: Mapping[str, tuple[Value, Value]], metric: str) -> str:
    """How one side evaluated the metric, if that is all that differs (now, then); else ""."""
    evaluation = f"evaluations.{metric}"
    if set(differences) != {evaluation}:
        return ""
    now, then = differences[evaluation]
    if None in (now, then):
        return f"evaluated {'in the baseline' if now is None else 'now'} only"
    return f"in the baseline on n={then}, now on n={now}"


def _nearest(key: Key, others: Iterable[Key]) -> dict[str, tuple[Value, Value]]:
    """What sets a row apart from its nearest one on the other side, of the same method; nothing where there is none."""
    method = dict(key[1])["method"]
    differing = [_differences(key, other) for other in others if dict(other[1])["method"] == method]
    return min(differing, key=len, default={})


def _differences(key: Key, other: Key) -> dict[str, tuple[Value, Value]]:
    """What differs between two rows, by name, setting first. An evaluation that is not made has no n; else "all"."""
    sides = []
    for setting, content in (key, other):
        counted = {name: "all" if name.startswith("evaluations.") and n is None else n for name, n in content}
        named = {name: value for name, value in vars(setting).items() if name not in ("epochs", "budget_seconds")}
        sides.append(named | counted)  # "budget" says the same as the two left out
    ours, others = sides
    both = {name: (ours.get(name), others.get(name)) for name in dict.fromkeys([*ours, *others])}
    return {name: values for name, values in both.items() if values[0] != values[1]}


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
    own = {f"evaluations.{metric}", f"eval_precision.{metric}", *["eval_engine"] * (metric == "autoattack")}
    others = ("evaluations.", "eval_precision.", "eval_engine")
    return {
        key: value for key, value in one.items() if key not in _SOURCES and (not key.startswith(others) or key in own)
    }
