"""compare: records -> groups of comparable rows."""

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

from fatbench.config.parsing import attack_strength
from fatbench.errors import UsageError
from fatbench.record import Record
from fatbench.report.aggregate import Row, aggregate
from fatbench.report.configuration import Value, configuration, labels
from fatbench.report.formats import plain
from fatbench.report.pairs import Pair, pairs_of, with_marks
from fatbench.report.run import Run, run_of
from fatbench.report.setting import Setting, settings_of

_LISTED = 12  # names in a message


@dataclass(frozen=True)
class Group:
    """Rows whose numbers compare, and what they share."""

    setting: Setting
    rows: tuple[Row, ...]
    reference: Row | None  # what `speedup` is relative to
    notes: tuple[str, ...]
    paired: tuple[Pair, ...] | None = None  # every two rows put to a test, where that was asked for

    @property
    def evaluations(self) -> list[str]:
        """The names of the scores in its rows, from weak to strong."""
        return sorted({name for row in self.rows for name in row.scores}, key=_strength)


def compare(records: Iterable[Record | Run], *, sort: str | None = None, reference: str | None = None) -> list[Group]:
    """Return the records as groups of comparable runs, one row per configuration, in an order of their own.

    Runs know where their record lies; with the outcomes beside it, the best row is marked where it is distinguishable.

    `sort` is "method", "time" or the name of an evaluation; without it rows go by the strongest evaluation.
    `reference` names the rows (by method or label) whose time counts as 1; without it, and of several, the slowest.

    Raises:
        UsageError: nothing can be sorted by `sort`, or no group has the `reference`.
    """
    runs = list(map(run_of, records))
    shared: dict[Setting, list[Run]] = defaultdict(list)
    for setting, run in zip(settings_of([run.record for run in runs]), runs, strict=True):
        shared[setting].append(run)
    groups = [_group(setting, shared[setting], reference) for setting in sorted(shared, key=lambda one: one.order)]
    _check_names(groups, sort, reference)
    return [_finished(replace(group, rows=tuple(sorted(group.rows, key=_order(group, sort))))) for group in groups]


def with_pairs(groups: Sequence[Group], on: str | None = None, *, vs: str | None = None) -> list[Group]:
    """Return the groups with every two of their rows compared image by image, under `on` or their strongest evaluation.

    With `vs`, the method or label of a row, every other row is compared with that one alone.

    Raises:
        UsageError: no run has the evaluation, no group the row `vs`, or one has several; or outcomes are damaged.
    """
    there = sorted({name for group in groups for name in group.evaluations}, key=_strength)
    if on is not None and on not in there:
        raise UsageError(f"no run was evaluated on '{plain(on)}'; there are {_listed(there) or 'no scores at all'}")
    if vs is not None:
        _check_row([row for group in groups for row in group.rows], vs)
    return [_with_pairs(group, on or next(reversed(group.evaluations), None), vs) for group in groups]


def _with_pairs(group: Group, evaluation: str | None, vs: str | None) -> Group:
    named = [row for row in group.rows if vs is not None and vs in _called(row)]
    if len(named) > 1:
        raise UsageError(f"--vs: several rows are '{plain(vs)}'; name one of {_listed([row.label for row in named])}")
    if evaluation not in group.evaluations or (vs is not None and not named):
        return replace(group, paired=())
    return replace(group, paired=pairs_of(group.rows, evaluation, vs=named[0] if named else None))


def one_per_seed(runs: Sequence[Run]) -> list[Run]:
    """Return the runs of one configuration in the order of their seeds, the newest result of each."""
    repeats: dict[int, list[Run]] = defaultdict(list)
    for run in runs:
        repeats[run.record.spec.seed].append(run)
    return [
        max(repeats[seed], key=_recency) if len(repeats[seed]) > 1 else repeats[seed][0] for seed in sorted(repeats)
    ]


def _group(setting: Setting, members: Sequence[Run], reference: str | None) -> Group:
    runs: dict[tuple[tuple[str, Value], ...], list[Run]] = defaultdict(list)
    for run in members:
        runs[tuple(configuration(run.record).items())].append(run)
    configurations = [dict(key) for key in runs]
    kept = [one_per_seed(repeats) for repeats in runs.values()]
    rows = list(map(aggregate, labels(configurations), configurations, kept))
    base = _reference(rows, reference)
    notes = [*_duplicates(members, kept), *_versions([run.record for run in members])]
    if reference is not None and base is None:
        notes.append(f"no finished run of '{plain(reference)}' here: nothing says how much faster the others are")
    timed = tuple(replace(row, speedup=_speedup(row, base)) for row in rows)
    return Group(setting, timed, base, tuple(notes))


def _finished(group: Group) -> Group:
    """Return the group with the marks that its rows earned."""
    rows, notes = with_marks(
        group.rows, next(reversed(group.evaluations), None), timed=group.setting.epochs is not None
    )
    return replace(group, rows=tuple(rows), notes=(*group.notes, *notes))


def _recency(run: Run) -> tuple[object, ...]:
    """Order records of one run: results last, then the newest, then anything that does not hang on the files' order."""
    record = run.record
    content = (record.id, record.status, record.timing.train, record.scores, record.events, record.environment)
    return record.is_result, record.created, repr(content), str(run.path)


def _duplicates(members: Sequence[Run], kept: Sequence[Sequence[Run]]) -> list[str]:
    left_out = Counter(plain(run.record.id) for run in members)
    left_out.subtract(plain(run.record.id) for repeats in kept for run in repeats)
    runs = sorted(run for run, count in left_out.items() if count)
    several = "several records of one run, of which the newest counts"
    return [f"{several}: {_listed(runs)}"] if runs else []


def _versions(records: Sequence[Record]) -> list[str]:
    versions = sorted({plain(record.environment.torch) for record in records if record.environment})
    return [f"not all with the same torch: {_listed(versions)}"] if len(versions) > 1 else []


def _reference(rows: Sequence[Row], name: str | None) -> Row | None:
    timed = [(row.train_seconds.mean, row.label, row.model, row) for row in rows if row.train_seconds]
    named = [one for one in timed if name is None or name in _called(one[-1])]
    return max(named, key=lambda one: one[:-1])[-1] if named else None


def _called(row: Row) -> tuple[str, ...]:
    return row.label, row.method, str(row.configuration["method"]), f"{row.label} {row.model}"


def _speedup(row: Row, base: Row | None) -> float | None:
    if not (base and base.train_seconds and row.train_seconds and row.train_seconds.mean):
        return None
    ratio = base.train_seconds.mean / row.train_seconds.mean
    return ratio if math.isfinite(ratio) else None


def _check_names(groups: Sequence[Group], sort: str | None, reference: str | None) -> None:
    keys = ["method", "time", *sorted({name for group in groups for name in group.evaluations}, key=_strength)]
    if sort is not None and sort not in keys:
        raise UsageError(f"cannot sort by '{plain(sort)}'; there are {_listed(keys)}")
    rows = [row for group in groups for row in group.rows]
    if reference is not None and rows:
        _check_row(rows, reference)


def _check_row(rows: Sequence[Row], name: str) -> None:
    if not any(name in _called(row) for row in rows):
        there = _listed(sorted({row.label for row in rows}))
        raise UsageError(f"no run of '{plain(name)}' to refer to; there are {there or 'no runs at all'}")


def _order(group: Group, sort: str | None) -> Callable[[Row], tuple[object, ...]]:
    key = sort or next(reversed(group.evaluations), "method")
    if key == "method":
        return lambda row: (row.label, row.model)
    if key == "time":
        return lambda row: (row.train_seconds.mean if row.train_seconds else math.inf, row.label, row.model)
    return lambda row: (-row.scores[key].mean if key in row.scores else 1, row.label, row.model)


def _strength(evaluation: str) -> tuple[int, int, str]:
    return (*attack_strength(evaluation), evaluation)


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(plain(name) for name in names[:_LISTED])
    return shown + (f", and {len(names) - _LISTED} more" if len(names) > _LISTED else "")
