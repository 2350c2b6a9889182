"""`fatbench show`, and how a result is printed: its panel, then what may be copied, unbroken by a frame."""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from fatbench import methods, record
from fatbench.cli import options
from fatbench.cli.console import make_console
from fatbench.cli.resume_hint import resume_hint
from fatbench.cli.warnings import range_in_words
from fatbench.config import presets
from fatbench.config.request import DEFAULT_OUTPUT
from fatbench.errors import UsageError
from fatbench.record import Record
from fatbench.record.paths import run_of_path
from fatbench.report.formats import plain
from fatbench.report.run import Run


def print_result(console: Console, result: Record, path: Path) -> None:
    """Print the record at `path`, and how to resume a run that has not finished."""
    from fatbench.report.render.panel import panel

    run = Run(result, path)
    console.print(panel(result, path))
    lines = [f"record: {plain(path, 4096)}"]
    if run.status in ("interrupted", "failed", "stopped"):
        lines.append(_what_is_next(result, path))
    for line in lines:
        console.print(Text(line), soft_wrap=True)


def _what_is_next(result: Record, path: Path) -> str:
    """Return how to resume a run that has not finished."""
    if result.spec.train is None:
        return "resume by: the same `fatbench eval`"
    folder, _ = run_of_path(path)
    again = resume_hint(result, folder)
    if again is None:
        return "nothing to resume: the same `fatbench run` starts it again"
    return f"resume by: {plain(again, 4096)}"


def show(
    what: Annotated[str, typer.Argument(metavar="METHOD|ID|RESULT.json", show_default=False)],
    output: options.Output = DEFAULT_OUTPUT,
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
    declared = description.constants.get("PASSES")
    if isinstance(declared, dict):  # `fatbench check-method` says what else is wrong
        passes = [f"{number} {kind!s}".replace("_", " ") for kind, number in declared.items()]
        console.print(Text(f"passes per optimiser step: {', '.join(passes)}"))
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
    yield from map(presets.track_in_words, official.get("tracks", []))
    for name, values in official.get("published", {}).items():
        yield f"published: {name} {range_in_words(values)}"


def _result(what: str, output: Path) -> Path | None:
    """The file of a result, named by its path, its folder or its id; None for what is no result."""
    if what.endswith(".json"):
        return Path(what)
    places = (Path(f"{what.rstrip('/')}.json"), output / f"{what}.json")
    return next((path for path in places if path.is_file()), None)
