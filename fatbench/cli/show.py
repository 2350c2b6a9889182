"""A result as a person is shown it: its panel, then what she may want to copy, which no frame breaks into lines."""

from pathlib import Path

from rich.console import Console
from rich.text import Text

from fatbench.cli.resume_hint import resume_hint
from fatbench.record import Record
from fatbench.record.paths import run_of_path
from fatbench.report.plain_text import plain
from fatbench.report.run import Run


def print_result(console: Console, result: Record, path: Path) -> None:
    """Print the record at `path`; of a run that has not come to its end, how to go on with it."""
    from fatbench.report.render.panel import panel

    run = Run(result, path)
    console.print(panel(result, path))
    lines = [f"record: {plain(path, 4096)}"]
    if run.status in ("interrupted", "failed", "stopped"):
        lines.append(_what_is_next(result, path))
    for line in lines:
        console.print(Text(line), soft_wrap=True)


def _what_is_next(result: Record, path: Path) -> str:
    """Return how to go on with a run that has not come to its end."""
    if result.spec.epochs == 0:
        return "goes on by: the same `fatbench eval`"
    folder, _ = run_of_path(path)
    again = resume_hint(result, folder)
    if again is None:
        return "nothing to go on with: the same `fatbench run` starts it again"
    return f"goes on by: {plain(again, 4096)}"
