"""Comparisons as text for other programs and pages: Markdown, CSV, JSON."""

import csv
import dataclasses
import io
import json
from collections.abc import Sequence
from typing import Any

from fatbench.report.aggregate import Accuracy, Row, seed_rows, status
from fatbench.report.comparison import Group
from fatbench.report.formats import cell_text, markdown_text
from fatbench.report.pairs import Pair
from fatbench.report.regression import Check, raw
from fatbench.report.render.columns import Column, columns, pair_columns, pair_notes
from fatbench.report.render.notes import footnotes, headings, legend
from fatbench.report.significance import Needed


def markdown(groups: Sequence[Group], *, per_seed: bool = False, checks: Sequence[Check] | None = None) -> str:
    """Return one GitHub table per group under a heading that says what its rows share, and a legend."""
    blocks = []
    for heading, group in zip(headings(groups), groups, strict=True):
        blocks.append(f"### {markdown_text(heading)}\n\n" + _block(columns(group, per_seed=per_seed), footnotes(group)))
        if group.paired is not None:
            blocks.append(_block(pair_columns(group), pair_notes(group)))
    found = "".join(f"- {markdown_text(one)}\n" for one in checks or ())
    meaning = "  \n".join(legend(groups).splitlines())
    return "\n".join([*blocks, f"{meaning}\n", *[found] * bool(found)])


def csv_text(groups: Sequence[Group], *, per_seed: bool = False) -> str:
    """Return one tidy table of raw numbers, each line with its group's setting in it.

    A line is a row; with `per_seed` a seed of a row; and of groups whose pairs were compared, a pair.
    """
    evaluations = list(dict.fromkeys(name for group in groups for name in group.evaluations))
    if any(group.paired is not None for group in groups):
        lines = [dataclasses.asdict(group.setting) | _pair(pair) for group in groups for pair in group.paired or ()]
    elif per_seed:
        lines = [
            _flat(group, one, evaluations) | {"label": row.label, "seeds": one.seeds[0]}
            for group in groups
            for row in group.rows
            for one in seed_rows(row)
        ]
        lines = [{"seed" if key == "seeds" else key: value for key, value in line.items()} for line in lines]
    else:
        lines = [_flat(group, row, evaluations) for group in groups for row in group.rows]
    written = io.StringIO()
    writer = csv.DictWriter(written, fieldnames=list(lines[0]) if lines else [], lineterminator="\n")
    writer.writeheader()
    writer.writerows({key: cell_text(v) if isinstance(v, str) else v for key, v in line.items()} for line in lines)
    return written.getvalue()


def json_text(groups: Sequence[Group], *, per_seed: bool = False, checks: Sequence[Check] | None = None) -> str:
    """Return the groups and all their rows hold, as raw numbers; with `checks` an object that holds both."""
    found = [_nested(group, per_seed=per_seed) for group in groups]
    return json.dumps(found if checks is None else {"groups": found, "checks": raw(checks)}, indent=1) + "\n"


def _block(found: Sequence[Column], notes: Sequence[str]) -> str:
    """A table, and the lines below it."""
    lines = [
        [markdown_text(" ".join([column.title, *column.details])) for column in found],
        ["---:" if column.numeric else ":---" for column in found],
        *([markdown_text(" ".join(cell)) for cell in cells] for cells in zip(*(c.cells for c in found), strict=True)),
    ]
    table = "".join(f"| {' | '.join(line)} |\n" for line in lines) if found else ""
    below = "".join(f"{markdown_text(note)}  \n" for note in notes)
    return table + (f"\n{below}" if table and below else below)


def _flat(group: Group, row: Row, evaluations: Sequence[str]) -> dict[str, Any]:
    time = row.train_seconds
    line = dataclasses.asdict(group.setting) | {
        "method": row.method,
        "label": row.label,
        "model": row.model,
        "seeds": len(row.seeds),
        "finished": row.finished,
        "status": status(row) or "finished",
        "train_seconds_mean": time.mean if time else None,
        "train_seconds_std": time.std if time else None,
        "reference": group.reference.label if group.reference else None,
        "speedup": row.speedup,
        "best": row.best,
        "pareto": row.pareto,
    }
    scores = {key: value for name in evaluations for key, value in _score(name, row.scores.get(name)).items()}
    return line | {key: value for key, value in scores.items() if key not in line}  # it may be called anything


def _score(name: str, score: Accuracy | None) -> dict[str, Any]:
    prefix = cell_text(name).replace("-", "_")
    keys = ("mean", "std", "interval", "low", "high", "images", "seeds")
    numbers = {key: getattr(score, key, None) for key in keys}
    version = (score.version or "standard") if score else None
    return {f"{prefix}_{key}": value for key, value in (numbers | {"version": version}).items()}


def _nested(group: Group, *, per_seed: bool) -> dict[str, Any]:
    each = [
        _row(row) | {"per_seed": [_row(one) for one in seed_rows(row)]} if per_seed else _row(row) for row in group.rows
    ]
    found = {
        "setting": dataclasses.asdict(group.setting),
        "reference": group.reference.label if group.reference else None,
        "notes": group.notes,
        "rows": each,
    }
    return found if group.paired is None else found | {"pairs": [_pair(pair) for pair in group.paired]}


def _row(row: Row) -> dict[str, Any]:
    line = {key: value for key, value in vars(row).items() if key != "runs"}
    time = row.train_seconds
    return line | {
        "train_seconds": vars(time) if time else None,
        "scores": {name: vars(score) for name, score in row.scores.items()},
    }


def _pair(pair: Pair) -> dict[str, Any]:
    line = {key: value for key, value in vars(pair).items() if key not in ("a", "b", "needed", "obstacle")}
    need = {f"needed_{key}": getattr(pair.needed, key, None) for key in Needed._fields}
    rows = {
        f"{side}_{key}": value
        for side, row in (("a", pair.a), ("b", pair.b))
        for key, value in (("label", row.label), ("model", row.model), ("seeds", row.finished))
    }
    return rows | line | need | {"distinguishable": pair.distinguishable, "verdict": pair.verdict}
