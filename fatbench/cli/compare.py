"""`fatbench compare`: many records, one honest table for each group that compares."""

import glob
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from fatbench import record
from fatbench.errors import UsageError
from fatbench.report import comparison, render


class Format(StrEnum):
    """How to print the comparison."""

    TABLE = "table"
    MARKDOWN = "markdown"
    CSV = "csv"
    JSON = "json"


def compare(
    files: Annotated[list[str], typer.Argument(metavar="RESULT.json...", help="Records, folders or patterns.")],
    sort: Annotated[
        str | None,
        typer.Option(help="Sort by method, time, clean, pgd-20, autoattack, ... [default: strongest attack]"),
    ] = None,
    reference: Annotated[
        str | None, typer.Option(help="The row whose training time is 1x. [default: the slowest]")
    ] = None,
    format_: Annotated[Format, typer.Option("--format", help="How to print.")] = Format.TABLE,
) -> None:
    """Tabulate results: seeds aggregated, what does not compare kept apart."""
    records = [record.load(path) for path in _paths(files)]
    groups = comparison.compare(records, sort=sort, reference=reference)
    if format_ is Format.TABLE:
        console = Console()
        for table in render.tables(groups):
            console.print(table)
        return
    text = {Format.MARKDOWN: render.markdown, Format.CSV: render.csv, Format.JSON: render.json}[format_](groups)
    typer.echo(text, nl=not text.endswith("\n"))


def _paths(names: list[str]) -> list[Path]:
    """Return the files that `names` mean: files, patterns that the shell left alone, or folders of records."""
    paths: list[Path] = []
    for name in names:
        path = Path(name)
        if path.is_dir():
            found = sorted(path.glob("*.json"))
        elif path.exists() or not glob.has_magic(name):
            found = [path]
        else:
            found = sorted(Path(match) for match in glob.glob(name))  # noqa: PTH207 - Path.glob takes no absolute one
        if not found and not path.is_dir():  # artefacts lie in folders beside the records: results/* names them too
            raise UsageError(f"no records match '{name}'; `fatbench run` writes them to results/")
        paths += [file for file in found if not file.is_dir()]
    if not paths:
        raise UsageError(f"no records in {', '.join(names)}; `fatbench run` writes them to results/")
    return paths
