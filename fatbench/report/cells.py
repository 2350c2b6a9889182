"""A group as a grid of text, for whatever draws it: the one place where a comparison's numbers are formatted."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from fatbench.report.aggregate import NOISY, Accuracy, Row
from fatbench.report.comparison import Group
from fatbench.report.plain import plain
from fatbench.report.setting import Setting

NONE = "-"
_NOISY = "*"  # beside a time
_UNITS = (("s", 1.0), ("min", 60.0), ("h", 3600.0))
_PREFIXES = (("E", 1e18), ("P", 1e15), ("T", 1e12), ("G", 1e9), ("M", 1e6), ("k", 1e3))
_UP_TO = 600  # of a unit; then the next
Cell = tuple[str, ...]  # lines where space is short, else joined; numbers are never cut


@dataclass(frozen=True)
class Column:
    """A heading, what the cells under it share, and a cell per row."""

    title: str
    details: tuple[str, ...]
    cells: tuple[Cell, ...]
    numeric: bool = True


def columns(group: Group) -> list[Column]:
    """Return the columns of a group's table."""
    rows = group.rows
    found = [_column("method", rows, lambda row: row.label, numeric=False)]
    if len({row.model for row in rows}) > 1:
        found.append(_column("model", rows, lambda row: row.model, numeric=False))
    found.append(_column("seeds", rows, lambda row: str(len(row.seeds))))
    found.append(_times(rows))
    if group.setting.epochs is not None:  # under a time budget every row takes the same time
        found.append(_column("x faster", rows, lambda row: _ratio(row.speedup)))
    found.extend(_accuracies(rows, name) for name in group.evaluations)
    if any(status(row) for row in rows):
        found.append(_column("status", rows, status, numeric=False))
    return found


def headings(groups: Sequence[Group]) -> list[str]:
    """Return each group's title: what its rows share. Groups that differ in nothing else show the hash of the data."""
    written = [_heading(group) for group in groups]
    return [
        f"{text}, data {plain(group.setting.data_sha256 or 'unknown')[:8]}" if written.count(text) > 1 else text
        for text, group in zip(written, groups, strict=True)
    ]


def footnotes(group: Group) -> list[str]:
    """Return what a reader of the group's table must know beside it."""
    base = group.reference
    several = len({row.model for row in group.rows}) > 1
    shown = base is not None and group.setting.epochs is not None
    relative = f"x faster: than {base.label}{f' on {base.model}' if several else ''}" if base and shown else ""
    noisy = any(NOISY in row.events and row.train_seconds for row in group.rows)
    doubt = f"{_NOISY} noisy: uneven in pace, or throttled; do not rely on this speed" if noisy else ""
    return [line for line in (relative, doubt, *group.notes) if line]


def legend(groups: Sequence[Group]) -> str:
    """Return what the numbers of all the tables mean."""
    rows = [row for group in groups for row in group.rows]
    seeds = "mean ± standard deviation over n seeds; " if any(len(row.seeds) > 1 for row in rows) else ""
    return f"Accuracies in %: {seeds}[95% Wilson interval of the mean for n test images]; times are training time only."


def status(row: Row) -> str:
    """Return how the runs of a row ended, as "2 of 3 finished, 1 diverged"; "" where there is nothing to tell."""
    runs = len(row.seeds)
    events = [kind if runs == 1 else f"{count} of {runs} {kind}" for kind, count in row.events.items()]
    if row.finished == runs:
        return ", ".join(events)
    others = {kind: count for kind, count in row.statuses.items() if kind != "finished"}
    if runs == 1:
        return ", ".join([*others, *events])
    return ", ".join([f"{row.finished} of {runs} finished", *(f"{n} {kind}" for kind, n in others.items()), *events])


def percent(share: float) -> str:
    """Return a fraction in percent, with one decimal."""
    return f"{100 * share:.1f}"


def interval(low: float, high: float) -> str:
    """Return an interval of fractions in percent."""
    return f"[{percent(low)}, {percent(high)}]"


def duration(seconds: float) -> str:
    """Return seconds as people write them: "0.42 s", "12.3 s", "45.0 min"."""
    name, size = _unit(seconds)
    return f"{seconds / size:.{_decimals(seconds / size)}f} {name}"


def quantity(value: float, unit: str) -> str:
    """Return a large number of `unit` as people write it: "18.1 GFLOP/s", "640 J"."""
    prefix, size = next((one for one in _PREFIXES if value >= one[1]), ("", 1.0))
    return f"{value / size:.{_decimals(value / size)}f} {prefix}{unit}"


def evaluation_title(name: str) -> str:
    """Return the name of an evaluation as people write it: "clean", "PGD-20", "AutoAttack"."""
    return "AutoAttack" if name == "autoattack" else plain(name).replace("pgd-", "PGD-")


def _heading(group: Group) -> str:
    one: Setting = group.setting
    shared = {row.model for row in group.rows}
    threads = f"{one.threads} thread{'s' * (one.threads != 1)}" if one.threads else ""
    size = f"{one.limit_train} training images" if one.limit_train else "of the training images"
    parts = [
        one.dataset,
        shared.pop() if len(shared) == 1 else "",
        f"{one.norm} eps {one.eps}",
        one.budget,
        f"batch {one.batch_size}",
        one.precision,
        f"{one.engine} engine" if one.engine != "reference" else "",
        f"{plain(one.device) if one.device else f'unknown device ({one.device_type})'}{', TF32' if one.tf32 else ''}",
        threads,
        f"protocol {one.protocol}",
        f"SUBSET {size}" if one.subset else "",
    ]
    return ", ".join(part for part in parts if part)


def _column(title: str, rows: Sequence[Row], text: Callable[[Row], str], *, numeric: bool = True) -> Column:
    return Column(title, (), tuple((text(row),) for row in rows), numeric)


def _times(rows: Sequence[Row]) -> Column:
    name, size = _unit(max((row.train_seconds.mean for row in rows if row.train_seconds), default=0.0))

    def text(row: Row) -> str:
        time = row.train_seconds
        if time is None:
            return NONE
        decimals = _decimals(time.mean / size)
        spread = f" ± {time.std / size:.{decimals}f}" if time.std is not None else ""
        return f"{time.mean / size:.{decimals}f}{spread}{_NOISY * (NOISY in row.events)}"

    return _column(f"time, {name}", rows, text)


def _accuracies(rows: Sequence[Row], name: str) -> Column:
    scores = [row.scores[name] for row in rows if name in row.scores]
    shared = {_conditions(score) for score in scores}
    details = shared.pop() if len(shared) == 1 else ()
    cells = tuple(_accuracy(row.scores.get(name), row, in_heading=bool(details)) for row in rows)
    return Column(evaluation_title(name), details, cells)


def _conditions(score: Accuracy) -> tuple[str, ...]:
    return tuple(text for text in (score.version, f"n={score.images}") if text)


def _accuracy(score: Accuracy | None, row: Row, *, in_heading: bool) -> Cell:
    if score is None:
        return (NONE,)
    spread = f" ± {percent(score.std)}" if score.std is not None else ""
    fewer = (f"{score.seeds} of {row.finished} seeds",) if score.seeds < row.finished else ()
    conditions = () if in_heading else _conditions(score)
    return (percent(score.mean) + spread, interval(score.low, score.high), *conditions, *fewer)


def _unit(seconds: float) -> tuple[str, float]:
    return next((unit for unit in _UNITS if seconds < _UP_TO * unit[1]), _UNITS[-1])


def _decimals(value: float) -> int:
    return 3 if value < 0.1 else 2 if value < 10 else 1 if value < 100 else 0


def _ratio(value: float | None) -> str:
    return NONE if value is None else f"{value:.{2 if value < 1 else 1}f}"
