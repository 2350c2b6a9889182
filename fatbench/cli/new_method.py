"""`fatbench new-method`: a file to start from."""

import shlex
from pathlib import Path
from typing import Annotated

import typer


def new_method(
    name: Annotated[str, typer.Argument(metavar="NAME", help="As my-idea: letters, digits and -.", show_default=False)],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder to write to.")] = Path(),
) -> None:
    """Write NAME.py, a commented method that works, to start from; nothing is ever overwritten."""
    from fatbench.conformance.scaffold import scaffold

    path = scaffold(name, output)
    place = shlex.quote(str(path) if path.is_absolute() else f"./{path}")
    typer.echo(f"wrote {place}: a method that works, with comments. Make it yours, then:")
    typer.echo(f"  fatbench check-method {place}")
    typer.echo(f"  fatbench run --method {place}")
