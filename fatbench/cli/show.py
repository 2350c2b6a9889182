"""`fatbench show`, and how a result is printed: its panel, then what may be copied, unbroken by a frame."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.text import Text

from fatbench import record
from fatbench.cli import options
from fatbench.cli.console import make_console
from fatbench.cli.describe import describe
from fatbench.cli.resume_hint import resume_hint
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
    what: Annotated[str, typer.Argument(metavar="NAME|ID|RESULT.json", show_default=False)],
    output: options.Output = DEFAULT_OUTPUT,
) -> None:
    """Show a method, a preset, a dataset or a model by its name, or one result in full.

    A result is named by its file, or by its id if it is in --output.
    """
    path = _result(what, output)
    if path is not None:
        print_result(make_console(), record.load(path), path)
        return
    try:
        describe(make_console(), what)
    except UsageError as error:
        if what in presets.names() or what.endswith(".toml"):
            raise
        raise UsageError(f"no result '{what:.120}' in {output}, nor a preset, dataset or model; {error}") from None


def _result(what: str, output: Path) -> Path | None:
    """The file of a result, named by its path, its folder or its id; None for what is no result."""
    if what.endswith(".json"):
        return Path(what)
    places = (Path(f"{what.rstrip('/')}.json"), output / f"{what}.json")
    return next((path for path in places if path.is_file()), None)
