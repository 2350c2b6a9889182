"""`fatbench list`: what there is, as a table or as JSON."""

import ast
import re
from collections.abc import Iterable, Mapping
from enum import StrEnum
from json import dumps
from typing import Annotated, Any

import typer
from rich import box
from rich.table import Table
from rich.text import Text

from fatbench import data, methods, models
from fatbench.cli import options
from fatbench.cli.console import echo, make_console, say
from fatbench.config import presets
from fatbench.errors import UsageError
from fatbench.report.formats import plain

_BATCH = 128  # on which the passes of a few methods depend, as in docs/methods.md
_MANY = 5  # gradients of an attack: PGD-AT and its like take ten, what is called fast takes one to three
_YEAR = re.compile(r"\b((?:19|20)[0-9]{2})\b(?!\.[0-9])")  # but not that of arXiv 1912.11969
_ARXIV = re.compile(r"\barXiv ([0-9]{2})[0-9]{2}\.")
_LEGEND = "passes: images sent forward, back to the inputs and back to the weights, per image of an update"


class Kind(StrEnum):
    """What can be listed."""

    METHODS = "methods"
    DATASETS = "datasets"
    MODELS = "models"
    PRESETS = "presets"


def list_things(
    kind: Annotated[Kind, typer.Argument(help="What to list.", show_default=False)], json: options.Json = False
) -> None:
    """List the methods, datasets, models or presets."""
    found = _found(kind)
    if json:
        echo(dumps(found, indent=1))
    else:
        console = make_console()
        console.print(_table(found, ("kind", "passes", "year") if kind is Kind.METHODS else ()))
        if kind is Kind.METHODS:
            console.print(Text(_LEGEND, style="dim"))
    for line in methods.warnings() if kind is Kind.METHODS else ():
        say(line, 0)


def _found(kind: Kind) -> list[dict[str, Any]]:
    if kind is Kind.METHODS:
        return [_method_facts(name) for name in methods.names()]
    if kind is Kind.PRESETS:
        return [_preset_facts(name) for name in presets.names()]
    catalogue = data if kind is Kind.DATASETS else models
    return [{"name": name, "title": catalogue.describe(name)} for name in catalogue.names()]


def _method_facts(name: str) -> dict[str, Any]:
    """Return what the method's source declares, at its defaults; a package of somebody else's may be damaged."""
    known = dict.fromkeys(("name", "kind", "passes", "year", "norms", "title", "package"))
    try:
        found = methods.describe(name)
        cost = found.cost(found.complete({}), _BATCH)
        known |= {"norms": list(found.norms), "title": found.title, "package": found.package or None}
    except UsageError as error:
        return known | {"name": name, "title": f"cannot be used: {error}"}
    known |= {"name": name, "year": _year(found.title)}
    if cost is None:  # `fatbench check-method` says why
        return known
    passes = {way: getattr(cost, way) for way in ("forward", "input_backward", "weight_backward")}
    return known | {"kind": _kind(found, passes), "passes": sum(passes.values()), **passes}


def _kind(method: methods.Description, passes: Mapping[str, float]) -> str:
    """Return what the attack costs: an update's gradients with respect to the inputs beyond those of its loss."""
    tree = ast.walk(ast.parse(method.source))
    if not any(isinstance(node, ast.Attribute) and node.attr == "ball" for node in tree):
        return "no attack"
    gradients = passes["input_backward"] - passes["weight_backward"]
    return "free" if gradients <= 0 else "fast" if gradients < _MANY else "multi-step"


def _year(title: str) -> int | None:
    """Return the year of the citation in a method's title; None where it cites nothing."""
    named, archived = _YEAR.search(title), _ARXIV.search(title)
    return int(named[1]) if named else 2000 + int(archived[1]) if archived else None


def _preset_facts(name: str) -> dict[str, Any]:
    found = presets.load(name)
    return {"name": name, "title": presets.describe(name), **{key: found.get(key) for key in ("method", "source")}}


def _table(found: Iterable[Mapping[str, Any]], columns: Iterable[str]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0), show_edge=False)
    table.add_column("name", no_wrap=True, style="bold")
    for column in columns:
        table.add_column(column, no_wrap=True, justify="left" if column == "kind" else "right")
    table.add_column("what it is")
    for one in found:
        package = f" [{one['package']}]" if one.get("package") else ""
        cells = [_cell(one.get(column)) for column in columns]
        table.add_row(Text(one["name"]), *cells, Text(plain(f"{one['title']}{package}", 400)))
    return table


def _cell(value: object) -> str:
    if value is None:
        return "-"
    return f"{round(value, 2):g}" if isinstance(value, float) else str(value)
