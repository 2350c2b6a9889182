"""A group, and its pairs, as grids of text for whatever draws them."""

from collections.abc import Callable, Container, Sequence
from dataclasses import dataclass
from typing import TypeVar

from fatbench.report import formats
from fatbench.report.aggregate import Accuracy, Row, seed_rows, status
from fatbench.report.comparison import Group
from fatbench.report.pairs import NO_OUTCOMES, Pair
from fatbench.report.validity import NOISY

NOISY_MARK = "*"  # beside a time
BEST_MARK, PARETO_MARK = "★", "◆"  # beside a label
INTERVALS, SIZES = "95% intervals", "n"  # beside accuracies, where there is room
_Line = TypeVar("_Line")
Cell = tuple[str, ...]  # lines where space is short, else joined; numbers are never cut


@dataclass(frozen=True)
class Column:
    """A heading, what the cells under it share, and a cell per row."""

    title: str
    details: tuple[str, ...]
    cells: tuple[Cell, ...]
    numeric: bool = True


def columns(group: Group, *, per_seed: bool = False, without: Container[str] = ()) -> list[Column]:
    """Return the columns of a group's table; with `per_seed`, the seeds of a row follow it, a line each.

    Accuracies come with `INTERVALS` and `SIZES`, unless `without` them.
    """
    rows = [line for row in group.rows for line in ([row, *seed_rows(row)] if per_seed else [row])]
    found = [column("method", rows, marked_label, numeric=False)]
    if len({row.model for row in rows}) > 1:
        found.append(column("model", rows, lambda row: row.model, numeric=False))
    found.append(column("seeds", rows, lambda row: str(len(row.seeds))))
    if group.setting.trained:
        found.append(_times(rows))
        if group.setting.epochs is not None:  # under a time budget every row takes the same time
            found.append(Column("x", ("faster",), tuple((formats.ratio(row.speedup),) for row in rows)))
    found.extend(_accuracies(rows, name, without) for name in group.evaluations)
    if any(status(row) for row in rows):
        found.append(column("status", rows, status, numeric=False))
    return found


def column(title: str, rows: Sequence[_Line], text: Callable[[_Line], str], *, numeric: bool = True) -> Column:
    """Return a column with one line of text per row."""
    return Column(title, (), tuple((text(row),) for row in rows), numeric)


def marked_label(row: Row) -> str:
    """Return the label of a row, with the marks that it earned."""
    return " ".join([row.label, *[BEST_MARK] * row.best, *[PARETO_MARK] * row.pareto])


def _times(rows: Sequence[Row]) -> Column:
    name, size = formats.unit(max((row.train_seconds.mean for row in rows if row.train_seconds), default=0.0))

    def text(row: Row) -> str:
        time = row.train_seconds
        if time is None:
            return formats.NONE
        digits = formats.decimals(time.mean / size)
        spread = f" ± {time.std / size:.{digits}f}" if time.std is not None else ""
        return f"{time.mean / size:.{digits}f}{spread}{NOISY_MARK * (NOISY in row.events)}"

    return column(f"time, {name}", rows, text)


def _accuracies(rows: Sequence[Row], name: str, without: Container[str]) -> Column:
    scores = [row.scores[name] for row in rows if name in row.scores]
    shared = {_conditions(score, without) for score in scores}
    details = shared.pop() if len(shared) == 1 else ()
    cells = tuple(_accuracy(row.scores.get(name), row, without, in_heading=bool(details)) for row in rows)
    return Column(formats.evaluation_title(name), details, cells)


def _conditions(score: Accuracy, without: Container[str]) -> tuple[str, ...]:
    size = "" if SIZES in without else formats.sample_size(score.images, score.most_images)
    return tuple(text for text in (score.version, size) if text)


def _accuracy(score: Accuracy | None, row: Row, without: Container[str], *, in_heading: bool) -> Cell:
    if score is None:
        return (formats.NONE,)
    spread = f" ± {formats.percent(score.std)}" if score.std is not None else ""
    fewer = (f"{score.seeds} of {row.finished} seeds",) if score.seeds < row.finished else ()
    interval = () if INTERVALS in without else (formats.interval(score.low, score.high),)
    conditions = () if in_heading else _conditions(score, without)
    return (formats.percent(score.mean) + spread, *interval, *conditions, *fewer)


def pair_columns(group: Group) -> list[Column]:
    """Return the columns of a group's table of pairs; there are none where there are no pairs."""
    pairs = group.paired
    if not pairs:
        return []
    asides = {
        "seeds": [f"{pair.a.finished} / {pair.b.finished}" for pair in pairs],
        "n": [str(pair.images) if pair.images else formats.NONE for pair in pairs],
    }
    shared = {name: texts for name, texts in asides.items() if len(pairs) > 1 and len(set(texts)) == 1}
    found = f"A - B on {formats.evaluation_title(pairs[0].evaluation)}, points"
    heading = tuple(f"{texts[0]} seeds" if name == "seeds" else f"n={texts[0]}" for name, texts in shared.items())
    return [
        column("A", pairs, lambda pair: row_name(pair.a, group.rows), numeric=False),
        column("B", pairs, lambda pair: row_name(pair.b, group.rows), numeric=False),
        Column(found, heading, tuple(_difference(pair) for pair in pairs)),
        column(
            "p (Holm)",
            pairs,
            lambda pair: formats.NONE if pair.p_adjusted is None else formats.probability(pair.p_adjusted),
        ),
        *(Column(name, (), tuple((text,) for text in asides[name])) for name in asides if name not in shared),
        Column("verdict", (), tuple(_verdict(pair) for pair in pairs), numeric=False),
    ]


def pair_notes(group: Group) -> list[str]:
    """Return what a reader of the table of pairs must know beside it."""
    pairs = group.paired
    if pairs is None:
        return []
    if not pairs:
        return ["no pair to compare here"]
    lacking = any(pair.obstacle == NO_OUTCOMES for pair in pairs)
    remedy = f"{NO_OUTCOMES}: not beside the record, or of an older version; run these again with this one (--force)"
    doubtful = {id(row): row_name(row, group.rows) for pair in pairs for row in (pair.a, pair.b) if row.findings}
    finding = f"a verdict is no better than the scores: see the status of {', '.join(doubtful.values())}"
    return [*[remedy] * lacking, *[finding] * bool(doubtful)]


def row_name(row: Row, rows: Sequence[Row]) -> str:
    """Return what tells a row from the others in a sentence: its label, and its model where there are several."""
    return f"{row.label} on {row.model}" if len({one.model for one in rows}) > 1 else row.label


def _difference(pair: Pair) -> tuple[str, ...]:
    if pair.difference is None or pair.low is None or pair.high is None:
        return (formats.NONE,)
    return (formats.points(pair.difference), formats.interval(pair.low, pair.high))


def _verdict(pair: Pair) -> Cell:
    """The verdict and, of a pair that is not told apart, what would do it."""
    need = pair.needed
    if need is None:
        return (pair.verdict,)
    numbers = [
        f"{formats.rounded(number)} {of}" for number, of in ((need.seeds, "seeds"), (need.images, "images")) if number
    ]
    return (f"{pair.verdict};", f"about {(' and ' if need.jointly else ' or ').join(numbers)} would tell")
