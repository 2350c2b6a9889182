"""The pairs of a group as a grid of text, and the words around it."""

from fatbench.report.comparison import Group
from fatbench.report.formats import NONE, evaluation_title, interval, points, probability
from fatbench.report.pairs import NO_OUTCOMES, Pair
from fatbench.report.render.columns import Column, column
from fatbench.report.render.notes import row_name


def pair_columns(group: Group) -> list[Column]:
    """Return the columns of a group's table of pairs; there are none where there are no pairs."""
    pairs = group.paired
    if not pairs:
        return []
    asides = {
        "seeds": [f"{pair.a.finished} / {pair.b.finished}" for pair in pairs],
        "n": [str(pair.images) if pair.images else NONE for pair in pairs],
    }
    shared = {name: texts for name, texts in asides.items() if len(pairs) > 1 and len(set(texts)) == 1}
    found = f"A - B on {evaluation_title(pairs[0].evaluation)}, points"
    heading = tuple(f"{texts[0]} seeds" if name == "seeds" else f"n={texts[0]}" for name, texts in shared.items())
    return [
        column("A", pairs, lambda pair: row_name(pair.a, group.rows), numeric=False),
        column("B", pairs, lambda pair: row_name(pair.b, group.rows), numeric=False),
        Column(found, heading, tuple(_difference(pair) for pair in pairs)),
        column("p (Holm)", pairs, lambda pair: NONE if pair.p_adjusted is None else probability(pair.p_adjusted)),
        *(Column(name, (), tuple((text,) for text in asides[name])) for name in asides if name not in shared),
        column("verdict", pairs, lambda pair: pair.verdict, numeric=False),
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


def _difference(pair: Pair) -> tuple[str, ...]:
    if pair.difference is None or pair.low is None or pair.high is None:
        return (NONE,)
    return (points(pair.difference), interval(pair.low, pair.high))
