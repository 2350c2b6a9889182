"""Counterparts: the rows of new results and those of a baseline that they are compared with."""

from collections.abc import Iterable, Sequence

from fatbench.errors import UsageError
from fatbench.report.aggregate import Row, aggregate
from fatbench.report.comparison import one_per_seed
from fatbench.report.configuration import Configuration, Value, configuration, labels
from fatbench.report.limits import TIME
from fatbench.report.loaded import Run
from fatbench.report.setting import Setting, settings_of
from fatbench.spec import short_name

_SOURCES = ("source", "model_source")  # code that has changed since is what a baseline is for
Key = tuple[Setting, tuple[tuple[str, Value], ...]]


def counterparts(new: Sequence[Run], baseline: Sequence[Run], metric: str) -> tuple[dict[Key, Row], dict[Key, Row]]:
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


def apart(key: Key, theirs: Iterable[Key]) -> str:
    """Return why a row has no counterpart in the baseline: what sets it apart from its nearest one there."""
    alike = [vars(setting) for setting, content in theirs if content == key[1]]
    ours = vars(key[0])
    named = [name for name in ours if name not in ("epochs", "budget_seconds")]  # "budget" says the same
    differing = [[name for name in named if other[name] != ours[name]] for other in alike]
    nearest = min(differing, key=len, default=[])
    return f"in the baseline with another {', '.join(nearest)}" if nearest else "not in the baseline"


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
