"""Comparisons for the terminal: one Rich table per group, as wide as the terminal lets it be."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from rich import box
from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from fatbench.report.comparison import Group
from fatbench.report.render.columns import Cell, Column, columns, pair_columns, pair_notes
from fatbench.report.render.notes import footnotes, headings, legend

_UNLIMITED = 10_000  # characters
_FOLDED = 16  # characters that names and states get at the least


def tables(groups: Sequence[Group], *, per_seed: bool = False) -> Iterator[RenderableType]:
    """Return a table per group under a heading that says what its rows share, its pairs, and a legend at the end.

    In a narrow terminal cells take several lines, and at last rows become blocks: a number is never cut.
    """
    for heading, group in zip(headings(groups), groups, strict=True):
        yield Text(heading, style="bold")
        yield _Fitting(columns(group, per_seed=per_seed))
        yield Text("\n".join([*footnotes(group), ""]), style="dim")
        if group.paired:
            yield _Fitting(pair_columns(group))
        if group.paired is not None:
            yield Text("\n".join([*pair_notes(group), ""]), style="dim")
    yield Text(legend(groups) if groups else "nothing to compare", style="dim")


@dataclass(frozen=True)
class _Fitting:
    """Columns as the widest layout that the terminal has room for."""

    columns: Sequence[Column]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        wide = _table(self.columns, " ", padding=1)
        if Measurement.get(console, options.update(width=_UNLIMITED), wide).maximum <= options.max_width:
            yield wide
            return
        numbers = sum(_narrowest(column) for column in self.columns)
        for padding in (1, 0):
            if numbers + (padding + 1) * len(self.columns) <= options.max_width:
                yield _table(self.columns, "\n", padding)
                return
        yield _blocks(self.columns)


def _narrowest(column: Column) -> int:
    """Return the characters that a column needs when its cells are stacked; text may fold, numbers may not."""
    longest = max(map(cell_len, (column.title, *column.details, *(line for cell in column.cells for line in cell))))
    return longest if column.numeric else min(longest, _FOLDED)


def _table(found: Sequence[Column], between: str, padding: int) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, padding, 0, 0), show_edge=False)
    for column in found:
        table.add_column(
            Text(between.join([column.title, *column.details])),
            justify="right" if column.numeric else "left",
            no_wrap=column.numeric,
            overflow="fold",
        )
    for cells in zip(*(column.cells for column in found), strict=True):
        table.add_row(*(_text(cell, between) for cell in cells))
    return table


def _text(cell: Cell, between: str) -> Text:
    return Text.assemble(cell[0], *((between + line, "dim") for line in cell[1:]))


def _blocks(found: Sequence[Column]) -> RenderableType:
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(overflow="fold", style="dim")
    table.add_column(overflow="fold")
    for number in range(len(found[0].cells)):
        for column in found:
            value = " ".join(column.cells[number])
            if value:
                name = " ".join([column.title, *column.details])
                table.add_row(Text(name), Text(value, style="bold" if column is found[0] else ""))
        table.add_row()
    return table
