"""`fatbench list`: what there is."""

from enum import StrEnum
from typing import Annotated

import typer
from rich.table import Table
from rich.text import Text

from fatbench import data, methods, models
from fatbench.cli.console import make_console, say
from fatbench.config import presets
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
