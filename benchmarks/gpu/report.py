"""From rows to tables, targets and one archive."""

import io
import json
import math
import tarfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.gpu.rows import Row, Rows
from benchmarks.gpu.sections import PLANS
from fatbench.errors import UsageError

_HIDDEN = ("source", "launch", "memory", "standing")  # of no use in a table on a terminal
_LARGEST = 4 * 2**20  # bytes of a file in the archive
_META = "gpu.json"
_WIDEST = 16  # columns of a table


@dataclass(frozen=True)
class Figure:
    """A number with its target; None is not measured."""

    name: str
    measured: float | None
    low: float | None = None
    high: float | None = None

    @property
    def target(self) -> str:
        bounds = ((">=", self.low), ("<=", self.high))
        return " and ".join(f"{sign} {bound:g}" for sign, bound in bounds if bound is not None)

    @property
    def met(self) -> bool | None:
        """Whether the target is met; what is not a number meets none."""
        if self.measured is None:
            return None
        low, high = -math.inf if self.low is None else self.low, math.inf if self.high is None else self.high
        return low <= self.measured <= high

    @property
    def verdict(self) -> str:
        return {None: "not measured", True: "met", False: "MISSED"}[self.met]


def figures(output: Path, *, of_any_version: bool = False) -> list[Figure]:
    """Return every figure that has a target, as this version of fatbench measured it or any."""
    files = {name: Rows(output / "rows" / f"{name}.jsonl", "") for name in PLANS}
    found_rows = {name: one.of_any_version() if of_any_version else one.measured() for name, one in files.items()}
    rows = {name: {row["name"]: row for row in found} for name, found in found_rows.items()}
    speed, loops = rows["speed"], rows["naive"]
    peak = rows["environment"].get("peak bf16", {}).get("tflop_per_second")

    def ratio(above: float | None, below: float | None) -> float | None:
        return above / below if above and below else None

    found = [
        Figure(
            f"{method}: times as fast as its authors' loop", ratio(row["ms_per_update"], _ms(speed, method)), low=5.0
        )
        for method, row in loops.items()
    ]
    for method in ("standard", "fgsm-rs", "bs-trades", "trades"):
        share = ratio(speed.get(method, {}).get("tflop_per_second"), peak)
        found.append(Figure(f"{method}: MFU", share, low=0.3))
    found.append(Figure("trades / bs-trades: time", ratio(_ms(speed, "trades"), _ms(speed, "bs-trades")), 2.4, 2.9))
    run = next((row for row in rows["training"].values() if row.get("method") == "fgsm-rs"), {})
    scored = next((row for row in rows["scoring"].values() if row.get("method") == "fgsm-rs"), {})
    correct, total = scored.get("pgd-50-10", (None, 1))
    accuracy = None if correct is None else correct / total
    found.append(Figure("fgsm-rs, 15 epochs: training seconds", run.get("train_seconds"), high=60.0))
    found.append(Figure("fgsm-rs, 15 epochs: PGD-50-10 accuracy", accuracy, low=0.42))
    attacks = rows["autoattack"]
    gain = ratio(attacks.get("library", {}).get("seconds"), attacks.get("fast", {}).get("seconds"))
    found.append(Figure("AutoAttack, fast engine: times as fast as the library", gain, low=4.0))
    tests = rows["gpu_tests"].get("pytest")
    found.append(Figure("GPU tests that fail", None if tests is None else tests["failed"] + tests["errors"], high=0.0))
    return found


def _ms(rows: dict[str, Row], method: str) -> float | None:
    return rows.get(method, {}).get("ms_per_update")


def table_of(figures: Sequence[Figure]) -> str:
    """Return the figures as text: target, measured, met."""
    rows = [{"figure": one.name, "target": one.target, "measured": one.measured, "": one.verdict} for one in figures]
    return _text(rows)


def table(rows: Rows) -> str:
    """Return the rows of a section as text, and what failed."""
    shown = [{key: value for key, value in row.items() if key not in _HIDDEN} for row in rows.measured()]
    tests = [row for row in shown if "outcome" in row]
    if tests:  # hundreds: those that did not pass, and the sum
        shown = [row for row in shown if row.get("outcome") != "PASSED"]
    failed = [f"FAILED: {row['name']}: {row['error'][:300]}" for row in rows.failures()]
    return "\n".join([_text(shown), *failed])


def _text(rows: Sequence[Row]) -> str:
    keys = list(dict.fromkeys(key for row in rows for key in row))
    if len(keys) > _WIDEST:
        given = ({key: _cell(value) for key, value in row.items() if value not in (None, "")} for row in rows)
        return "\n".join("  ".join(f"{key} {text}" for key, text in row.items()) for row in given)
    cells = [[_cell(row.get(key)) for key in keys] for row in rows]
    widths = [max(map(len, column)) for column in zip(keys, *cells, strict=True)]
    lines = (zip(line, widths, strict=True) for line in [keys, *cells])
    return "\n".join("  ".join(cell.ljust(width) for cell, width in line).rstrip() for line in lines)


def _cell(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else "-" if value in (None, "") else str(value)[:80]


def refuse_mixture(output: Path, scale: str) -> None:
    """Keep figures of different scales apart.

    Raises:
        UsageError: the folder holds figures of another scale, or does not say of which.
    """
    path = output / _META
    if path.exists():
        try:
            other = json.loads(path.read_text(encoding="utf-8"))["scale"]
        except (ValueError, KeyError, TypeError):
            raise UsageError(f"{path} is damaged: choose another --output, or remove it") from None
        if other != scale:
            raise UsageError(f"{output} holds figures of scale {other}: choose another --output")
    path.write_text(json.dumps({"scale": scale}) + "\n", encoding="utf-8")


def save(output: Path, archive: Path | None) -> None:
    """Pack everything but weights and working files into `archive`: wholly, or as it was before."""
    if archive is None:
        return
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as tar:
        for path in sorted(output.rglob("*")):
            inside = path.relative_to(output)
            wanted = path.is_file() and inside.parts[0] != "work" and path.stat().st_size <= _LARGEST
            if wanted and path.suffix not in (".safetensors", ".pt", ".lock"):
                tar.add(path, arcname=str(inside))
    archive.parent.mkdir(parents=True, exist_ok=True)
    new = archive.with_name(f"{archive.name}.new")
    new.write_bytes(packed.getvalue())
    new.replace(archive)
