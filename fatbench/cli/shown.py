"""A result as a person is shown it: its panel, then what she may want to copy, which no frame breaks into lines."""

from pathlib import Path

from rich.console import Console
from rich.text import Text

from fatbench.cli.going_on import resume_command
from fatbench.record import Record
from fatbench.record.places import named_by
from fatbench.report.loaded import Run
from fatbench.report.plain import plain


def print_result(console: Console, result: Record, path: Path) -> None:
    """Print the record at `path`; of a run that has not come to its end, how to go on with it."""
    from fatbench.report.panel import panel

    run = Run(result, path)
    console.print(panel(result, path))
    lines = [f"record: {plain(path, 4096)}"]
    if run.status in ("interrupted", "failed", "stopped"):
        folder, _ = named_by(path)
        again = resume_command(result.spec, folder)
        lines.append(
            "goes on by: the same `fatbench eval`" if result.spec.epochs == 0 else f"goes on by: {plain(again, 4096)}"
        )
    for line in lines:
        console.print(Text(line), soft_wrap=True)
