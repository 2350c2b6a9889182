"""The second table of `make bench`: AutoAttack by the library itself, and by both engines."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

_WIDTH = 120  # characters, at least
_LEGEND = """\
x library: times as fast as the library's own standard evaluation, which ran right before; robust: images that stand
agree: images with the library's verdict; share: of the standard's iterations, the same for all
seconds: of the processor on a CPU, else on the wall"""


@dataclass(frozen=True)
class EvaluationRow:
    """One engine's evaluations of one model."""

    model: str
    engine: str
    images: int
    seed: int
    share: float  # of the standard's iterations and queries
    seconds: Sequence[float]  # round by round
    speedups: Sequence[float]  # times as fast as the library's own evaluation, round by round; nothing for that one
    robust: int  # images that stood
    agreeing: int  # images with the library's verdict


def show_evaluations(rows: Sequence[EvaluationRow], hardware: str, width: int) -> str:
    """Return the table as text, for a terminal `width` characters wide."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for column in ("model", "AutoAttack by"):
        table.add_column(column, no_wrap=True)
    for column in ("images", "seed", "share", "seconds", "x library", "robust", "agree", "n"):
        table.add_column(column, justify="right", no_wrap=True)
    before = ""
    for row in rows:
        table.add_row(
            row.model if row.model != before else "",
            row.engine,
            f"{row.images}",
            f"{row.seed}",
            f"{row.share:g}",
            f"{median(row.seconds):.3g}",
            f"{median(row.speedups):.2f}" if row.speedups else "",
            f"{row.robust}",
            f"{row.agreeing}",
            f"{len(row.seconds)}",
        )
        before = row.model
    console = Console(width=max(width, _WIDTH), highlight=False)
    with console.capture() as captured:
        console.print(Text(f"AutoAttack, {hardware}", style="bold"), table, "", Text(_LEGEND, style="dim"))
    return captured.get()
