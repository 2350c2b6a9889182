"""Comparisons for the terminal: one Rich table per group, as wide as the terminal lets it be."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain

from rich import box
from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from fatbench.report.comparison import Group
from fatbench.report.render.columns import INTERVALS, SIZES, Cell, Column, columns, pair_columns, pair_notes
from fatbench.report.render.notes import footnotes, headings, legend

_UNLIMITED = 10_000  # characters
_FOLDED, _TIGHT = 16, 8  # characters that names and states get at the least, and where space is shorter still


def tables(groups: Sequence[Group], *, per_seed: bool = False) -> Iterator[RenderableType]:
    """Return a table per group under a heading that says what its rows share, its pairs, and a legend at the end.

    In a narrow terminal cells take several lines, then intervals and n are left out, which a line below says, and at
    last rows become blocks with all there is. A number is never cut.
    """
    for heading, group in zip(headings(groups), groups, strict=True):
        yield Text(heading, style="bold")
        yield _Fitting(columns(group, per_seed=per_seed), _Sparing(group, per_seed))
        yield Text("\n".join([*footnotes(group), ""]), style="dim")
        if group.paired:
            yield _Fitting(pair_columns(group))
        if group.paired is not None:
            yield Text("\n".join([*pair_notes(group), ""]), style="dim")
    yield Text(legend(groups) if groups else "nothing to compare", style="dim")


@dataclass(frozen=True)
class _Sparing:
    """Tables of a group that need less and less room, each with what its reader must know."""

    group: Group
    per_seed: bool

    def __iter__(self) -> Iterator[tuple[list[Column], str]]:
        for number in range(3):
            left_out = (INTERVALS, SIZES)[:number]
            found = columns(self.group, per_seed=self.per_seed, without=left_out)
            seeds = next(column.cells for column in found if column.title == "seeds")
            notes = [f"left out, as the terminal is narrow: {' and '.join(left_out)}"] * bool(left_out)
            if len(set(seeds)) == 1:
                found = [column for column in found if column.title != "seeds"]
                notes.append(f"seeds: {seeds[0][0]} in each row")
            yield found, "\n".join(notes)


@dataclass(frozen=True)
class _Fitting:
    """Columns as the widest layout that the terminal has room for."""

    columns: Sequence[Column]
    sparing: Iterable[tuple[Sequence[Column], str]] = ()  # the next best, and what is to be said of it

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        wide = _table(self.columns, " ", padding=1)
        if Measurement.get(console, options.update(width=_UNLIMITED), wide).maximum <= options.max_width:
            yield wide
            return
        whole = ((self.columns, "", _FOLDED, padding) for padding in (1, 0))
        for found, note, least, padding in chain(whole, ((*one, _TIGHT, 0) for one in self.sparing)):
            widths = _widths(found, options.max_width - (padding + 1) * (len(found) - 1), least)
            if widths:
                yield _table(found, "\n", padding, widths)
                yield from [Text(note, style="dim")] * bool(note)
                return
        yield _blocks(self.columns, options.max_width)


def _widths(found: Sequence[Column], room: int, least: int) -> list[int]:
    """Return a width for each column where cells are stacked, or none if there is no room for them.

    Numbers need theirs. Text may fold between words, down to `least` characters; what room is left goes to the first.
    """
    lines = [[column.title, *column.details, *chain(*column.cells)] for column in found]
    wanted = [max(map(cell_len, texts)) for texts in lines]
    words = [max(cell_len(word) for text in texts for word in text.split()) for texts in lines]
    widths = [
        longest if column.numeric else min(longest, max(least, min(word, _FOLDED)))
        for column, longest, word in zip(found, wanted, words, strict=True)
    ]
    room -= sum(widths)
    if room < 0:
        return []
    for place, longest in enumerate(wanted):
        more = min(longest - widths[place], room)
        widths[place], room = widths[place] + more, room - more
    return widths


def _table(found: Sequence[Column], between: str, padding: int, widths: Sequence[int] = ()) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, padding, 0, 0), show_edge=False)
    for number, column in enumerate(found):
        table.add_column(
            Text(between.join([column.title, *column.details])),
            justify="right" if column.numeric else "left",
            no_wrap=column.numeric,
            overflow="fold",
            width=widths[number] if widths else None,
        )
    for cells in zip(*(column.cells for column in found), strict=True):
        table.add_row(*(_text(cell, between) for cell in cells))
    return table


def _text(cell: Cell, between: str) -> Text:
    return Text.assemble(cell[0], *((between + line, "dim") for line in cell[1:]))


def _blocks(found: Sequence[Column], width: int) -> RenderableType:
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(overflow="fold", style="dim")
    table.add_column(overflow="fold")
    names = [" ".join([column.title, *column.details]) for column in found]
    room = width - max(map(cell_len, names)) - 4
    for number in range(len(found[0].cells)):
        for column, name in zip(found, names, strict=True):
            value = " ".join(column.cells[number])
            if column.numeric and cell_len(value) > room:
                value = "\n".join(column.cells[number])
            if value:
                table.add_row(Text(name), Text(value, style="bold" if column is found[0] else ""))
        table.add_row()
    return table
