"""The table of `make bench`: a row for every method and engine, and the authors' loops, model by model."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import median

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from benchmarks.evaluation_table import EvaluationRow
from fatbench.record.parts import Environment

_WIDTH = 120  # characters, at least
_LEGEND = """\
passes: of the batch, per update: forwards, backwards to inputs and backwards to weights; ms/update: median
x standard: an update of standard training on the same engine, from its own rounds, minutes apart: rough
x naive: times as fast as the authors' loop, which ran right before every time: median [least, greatest] of n rounds;
the loops are in benchmarks/naive: one image at a time through a DataLoader, .item() in every step, passes as coded"""
_ON_A_GPU = (
    "engines' fp32 lets convolutions use TensorFloat-32, as torch does by default; naive fp32 does not, naive tf32 does"
)


@dataclass(frozen=True)
class Row:
    """One lane's times."""

    model: str
    method: str
    lane: str
    batch_size: int
    passes: float  # per update
    seconds: Sequence[float]  # per update, round by round
    speedups: Mapping[str, Sequence[float]]  # naive lane -> times as fast, round by round; nothing for a naive lane

    @property
    def median(self) -> float:
        """Seconds per update."""
        return median(self.seconds)


def as_json(rows: Sequence[Row], environment: Environment, evaluations: Sequence[EvaluationRow] = ()) -> str:
    """Return everything measured, raw."""
    measured = {"rows": [asdict(row) for row in rows], "evaluations": [asdict(row) for row in evaluations]}
    return json.dumps({"environment": environment.model_dump(), **measured}, indent=1) + "\n"


def show(rows: Sequence[Row], environment: Environment, width: int) -> str:
    """Return the table as text, for a terminal `width` characters wide."""
    console = Console(width=max(width, _WIDTH), highlight=False)
    with console.capture() as captured:
        for model in dict.fromkeys(row.model for row in rows):
            mine = [row for row in rows if row.model == model]
            console.print(Text(f"{model}, batch {mine[0].batch_size}, {hardware(environment)}", style="bold"))
            console.print(_table(mine), "")
        console.print(Text(_LEGEND + (f"\n{_ON_A_GPU}" if environment.cuda else ""), style="dim"))
    return captured.get()


def hardware(environment: Environment) -> str:
    """Return what it was measured on."""
    threads = f"{environment.cpu_threads} thread{'s' * (environment.cpu_threads != 1)}"
    return f"{environment.device}, {threads}, torch {environment.torch}"


def _table(rows: Sequence[Row]) -> Table:
    opponents = list(dict.fromkeys(name for row in rows for name in row.speedups))
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for column in ("method", "engine"):
        table.add_column(column, no_wrap=True)
    for column in ("passes", "ms/update", "images/s", "x standard", *(f"x {name}" for name in opponents), "n"):
        table.add_column(column, justify="right", no_wrap=True)
    standards = {row.lane: row.median for row in rows if row.method == "standard"}
    before = ""
    for row in sorted(rows, key=_order):
        table.add_row(row.method if row.method != before else "", *_cells(row, standards.get(row.lane), opponents))
        before = row.method
    return table


def _order(row: Row) -> tuple[bool, str, bool]:
    """Standard training first, of a method the naive loops first; the rest as they were timed."""
    return row.method != "standard", row.method, not row.lane.startswith("naive")


def _cells(row: Row, standard: float | None, opponents: Sequence[str]) -> list[str]:
    return [
        row.lane,
        f"{row.passes:g}",
        _three_digits(row.median * 1e3),
        _three_digits(row.batch_size / row.median),
        "" if standard is None else f"{row.median / standard:.3g}",
        *(_spread(row.speedups.get(name)) for name in opponents),
        f"{len(row.seconds)}",
    ]


def _three_digits(value: float) -> str:
    """Three of them where they say something, all of a larger number: 0.123, 12.3, 1,235."""
    return f"{value:.3g}" if value < 1000 else f"{value:,.0f}"


def _spread(ratios: Sequence[float] | None) -> str:
    return f"{median(ratios):.2f} [{min(ratios):.2f}, {max(ratios):.2f}]" if ratios else ""
