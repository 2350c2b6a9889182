"""What the command line prints: consoles, single lines on stderr, JSON."""

from collections.abc import Sequence

import typer
from rich.console import Console

from fatbench.config.spec import RunSpec
from fatbench.errors import one_line
from fatbench.record import Record


def make_console(*, stderr: bool = False) -> Console:
    """Return a console that prints names and files as they stand: "[red]" and ":smile:" are no markup."""
    return Console(stderr=stderr, markup=False, emoji=False)


def say(message: str, code: int = 0) -> int:
    """Print `message` as one line to stderr, and return `code`."""
    if message.strip():
        typer.echo(f"fatbench: {one_line(message)}", err=True)
    return code


def json_list(things: Sequence[RunSpec | Record]) -> str:
    """Return the things as one JSON array."""
    return "[" + ",\n".join(thing.model_dump_json(by_alias=True) for thing in things) + "]"
