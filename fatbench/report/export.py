"""Comparisons as text for other programs and pages: Markdown, CSV, JSON."""

import csv
import dataclasses
import io
import json
from collections.abc import Sequence
from typing import Any

from fatbench.report.aggregate import Accuracy, Row
from fatbench.report.cells import columns, footnotes, headings, legend, status
from fatbench.report.comparison import Group
from fatbench.report.plain import cell_text, markdown_text


def markdown(groups: Sequence[Group]) -> str:
    """Return one GitHub table per group under a heading that says what its rows share, and a legend."""
    blocks = [_markdown(heading, group) for heading, group in zip(headings(groups), groups, strict=True)]
    return "\n".join([*blocks, f"{legend(groups)}\n"])


def csv_text(groups: Sequence[Group]) -> str:
    """Return one tidy table of raw numbers: a line per row, its group's setting repeated in it."""
    evaluations = list(dict.fromkeys(name for group in groups for name in group.evaluations))
    lines = [_flat(group, row, evaluations) for group in groups for row in group.rows]
    written = io.StringIO()
    writer = csv.DictWriter(written, fieldnames=list(lines[0]) if lines else [], lineterminator="\n")
    writer.writeheader()
    writer.writerows({key: cell_text(v) if isinstance(v, str) else v for key, v in line.items()} for line in lines)
    return written.getvalue()


def json_text(groups: Sequence[Group]) -> str:
    """Return the groups and all their rows hold, as raw numbers."""
    return json.dumps([_nested(group) for group in groups], indent=1) + "\n"


def _markdown(heading: str, group: Group) -> str:
    found = columns(group)
    lines = [
        [markdown_text(" ".join([column.title, *column.details])) for column in found],
        ["---:" if column.numeric else ":---" for column in found],
        *([markdown_text(" ".join(cell)) for cell in cells] for cells in zip(*(c.cells for c in found), strict=True)),
    ]
    table = "".join(f"| {' | '.join(line)} |\n" for line in lines)
    notes = "".join(f"{markdown_text(note)}  \n" for note in footnotes(group))
    return f"### {markdown_text(heading)}\n\n{table}" + (f"\n{notes}" if notes else "")


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
    }
    scores = {key: value for name in evaluations for key, value in _score(name, row.scores.get(name)).items()}
    return line | {key: value for key, value in scores.items() if key not in line}  # it may be called anything


def _score(name: str, score: Accuracy | None) -> dict[str, Any]:
    prefix = cell_text(name).replace("-", "_")
    numbers = {key: getattr(score, key, None) for key in ("mean", "std", "low", "high", "images", "seeds")}
    version = (score.version or "standard") if score else None
    return {f"{prefix}_{key}": value for key, value in (numbers | {"version": version}).items()}


def _nested(group: Group) -> dict[str, Any]:
    return {
        "setting": dataclasses.asdict(group.setting),
        "reference": group.reference.label if group.reference else None,
        "notes": group.notes,
        "rows": [dataclasses.asdict(row) for row in group.rows],
    }
