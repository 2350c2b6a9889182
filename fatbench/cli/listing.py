"""`fatbench list` and `fatbench show`: what there is, and what it says about itself."""

from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich import box
from rich.table import Table
from rich.text import Text

from fatbench import data, methods, models, record
from fatbench.cli.console import make_console
from fatbench.cli.errors import say
from fatbench.cli.show import print_result
from fatbench.cli.warnings import range_in_words
from fatbench.config import presets
from fatbench.config.presets import tracks
from fatbench.errors import UsageError


class Kind(StrEnum):
    """What can be listed."""

    METHODS = "methods"
    DATASETS = "datasets"
    MODELS = "models"
    PRESETS = "presets"


def list_things(kind: Annotated[Kind, typer.Argument(help="What to list.", show_default=False)]) -> None:
    """List the methods, datasets, models or presets, a line each."""
    described = {
        Kind.METHODS: lambda: {name: _title(name) for name in methods.names()},
        Kind.DATASETS: lambda: {name: data.describe(name) for name in data.names()},
        Kind.MODELS: lambda: {name: models.describe(name) for name in models.names()},
        Kind.PRESETS: lambda: {name: presets.describe(name) for name in presets.names()},
    }[kind]()
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(no_wrap=True, style="bold")
    table.add_column()
    for name, title in described.items():
        table.add_row(name, Text(title))
    make_console().print(table)
    for line in methods.warnings() if kind is Kind.METHODS else ():
        say(line, 0)


def _title(method: str) -> str:
    """The method's title, or why there is none: a package of somebody else's may be damaged."""
    try:
        found = methods.describe(method)
    except UsageError as error:
        return f"cannot be used: {error}"
    return f"{found.title} [{found.package}]" if found.package else found.title


def show(
    what: Annotated[str, typer.Argument(metavar="METHOD|ID|RESULT.json", show_default=False)],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder of records.")] = Path("results"),
) -> None:
    """Show a method's recipe and hyper-parameters, or one result in full: its file, or its id if it is in --output."""
    path = _result(what, output)
    if path is not None:
        print_result(make_console(), record.load(path), path)
        return
    try:
        description = methods.describe(what)
    except UsageError as error:
        raise UsageError(f"no result '{what:.120}' in {output}, and {error}") from None
    console = make_console()
    place = f"{description.path.name}, {description.package}" if description.package else description.path.name
    console.print(Text(description.name, style="bold"), Text(f"({place})", style="dim"))
    console.print(Text(description.docstring))
    if description.hyper:
        table = Table(box=box.SIMPLE, title="hyper-parameters (--set NAME=VALUE)", title_justify="left")
        for column in ("name", "type", "default", "meaning"):
            table.add_column(column)
        for hyper in description.hyper.values():
            table.add_row(hyper.name, hyper.kind, str(hyper.default), Text(hyper.meaning))
        console.print(table)
    console.print(Text(f"norms: {', '.join(description.norms)}"))
    for line in _recipes(description.name):
        console.print(Text(line))


def _recipes(method: str) -> Iterator[str]:
    """Say what the presets want of the method, what its authors tie to eps, and which values are published."""
    for name, wanted in presets.hyper_of(method).items():
        yield f"preset {name}: {' '.join(f'{key}={value}' for key, value in wanted.items())}"
    official = presets.official(method)
    if official:
        yield f"official recipe: {presets.recipes()[method]} (fatbench run --recipe official -m {method})"
    yield from map(tracks.describe, official.get("tracks", []))
    for name, values in official.get("published", {}).items():
        yield f"published: {name} {range_in_words(values)}"


def _result(what: str, output: Path) -> Path | None:
    """The file of a result, named by its path, its folder or its id; None for what is no result."""
    if what.endswith(".json"):
        return Path(what)
    places = (Path(f"{what.rstrip('/')}.json"), output / f"{what}.json")
    return next((path for path in places if path.is_file()), None)
