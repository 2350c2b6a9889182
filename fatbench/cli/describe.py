"""What `fatbench show` says of a method, a preset, a dataset and a model."""

import re
from collections.abc import Callable, Iterator
from json import dumps
from typing import Any

from rich import box
from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

from fatbench import data, methods, models
from fatbench.cli.reflow import hanging, reflowed
from fatbench.cli.warnings import range_in_words
from fatbench.config import presets
from fatbench.report.formats import plain

_APART = {"hyper", "tracks", "published", "source"}  # keys of a preset that are no settings
_LONGEST = 4096  # characters of a paragraph
_ARGUMENTS = re.compile(r"^Args:\n(?: .*\n?|\n(?= ))+\n?", re.MULTILINE)  # which the table shows


def describe(console: Console, what: str) -> None:
    """Print what is called `what`: a method, a preset, a dataset or a model, or several of them.

    Raises:
        UsageError: nothing is, or it cannot be read.
    """
    found: list[Callable[[], Iterator[RenderableType]]] = []
    if what in data.names():
        found.append(lambda: _named(what, "dataset", data.describe(what), f"fatbench run --dataset {what}"))
    if what in models.names():
        found.append(lambda: _named(what, "model", models.describe(what), f"fatbench run --model {what}"))
    if what in presets.names() or what.endswith(".toml"):
        found.append(lambda: _preset(what, console.width))
    if not found:
        described = methods.describe(what)
        found.append(lambda: _method(described, console.width))
    for part in found:
        for one in part():
            console.print(one, soft_wrap=isinstance(one, Text))  # text is wrapped already


def _named(name: str, kind: str, description: str, command: str) -> Iterator[RenderableType]:
    yield _title(name, kind)
    yield Text(f"{description}\n{command}\n")


def _title(name: str, aside: str) -> Text:
    return Text.assemble((name, "bold"), " ", (f"({aside})", "dim"))


def _method(described: methods.Description, width: int) -> Iterator[RenderableType]:
    path = described.path.name
    yield _title(described.name, f"{path}, {described.package}" if described.package else path)
    docstring = _ARGUMENTS.sub("", described.docstring) if described.hyper else described.docstring
    yield Text(reflowed("".join(one if one.isprintable() or one == "\n" else " " for one in docstring), width))
    if described.hyper:
        yield _hyper_parameters(described)
    for line in (*_facts(described), *_recipes(described.name)):
        yield Text(hanging(line, width))


def _hyper_parameters(described: methods.Description) -> Table:
    table = Table(box=box.SIMPLE, title="hyper-parameters (--set NAME=VALUE)", title_justify="left")
    for column in ("name", "type", "default"):
        table.add_column(column, no_wrap=True)
    table.add_column("meaning")
    for hyper in described.hyper.values():
        table.add_row(hyper.name, hyper.kind, plain(hyper.default), Text(plain(hyper.meaning, _LONGEST)))
    return table


def _facts(described: methods.Description) -> Iterator[str]:
    declared = described.constants.get("PASSES")
    if isinstance(declared, dict):  # `fatbench check-method` says what else is wrong
        passes = [f"{number} {kind!s}".replace("_", " ") for kind, number in declared.items()]
        yield f"passes per optimiser step: {', '.join(passes)}"
    yield f"norms: {', '.join(described.norms)}"


def _recipes(method: str) -> Iterator[str]:
    """Say what the presets want of the method, what its authors tie to eps, and which values are published."""
    for name, wanted in presets.hyper_of(method).items():
        yield f"preset {name}: {' '.join(f'{key}={value}' for key, value in wanted.items())}"
    official = presets.official(method)
    if official:
        yield f"official recipe: {presets.recipes()[method]} (fatbench run --recipe official -m {method})"
    yield from _published(official)


def _published(preset: dict[str, Any]) -> Iterator[str]:
    yield from map(presets.track_in_words, preset.get("tracks", []))
    for name, values in preset.get("published", {}).items():
        yield f"published: {name} {range_in_words(values)}"


def _preset(name: str, width: int) -> Iterator[RenderableType]:
    """Say where a preset comes from, what it sets, and what its authors tie to eps or have published."""
    content = presets.load(name)
    yield _title(name, "preset")
    for paragraph in presets.comment(name):
        yield Text(hanging(plain(paragraph, _LONGEST), width, by=0))
    published = list(_published(content))
    settings = [f"{key} = {dumps(value)}" for key, value in content.items() if key not in _APART]
    for method, hyper in content.get("hyper", {}).items():
        settings += [f"[hyper.{method}]", *(f"{key} = {dumps(value)}" for key, value in hyper.items())]
    if content.get("source"):
        published.append(f"source: {content['source']}")
    for lines in (settings, published):
        yield from [Text()] * bool(lines)
        yield from (Text(hanging(plain(line, _LONGEST), width)) for line in lines)
