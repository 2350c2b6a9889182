"""The terminal: what a user's files and names say is printed as it stands."""

from rich.console import Console


def make_console(*, stderr: bool = False) -> Console:
    """Return a console on which "[red]" and ":smile:" are neither a style nor a picture."""
    return Console(stderr=stderr, markup=False, emoji=False)
