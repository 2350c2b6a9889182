"""How often a user wants the state of a training kept."""

from fatbench.errors import UsageError
from fatbench.every import Every, parse_every


def every_of(text: str) -> Every:
    """Return what --checkpoint-every `text` stands for.

    Raises:
        UsageError: it cannot be right.
    """
    try:
        return parse_every(text)
    except ValueError as error:
        raise UsageError(f"--checkpoint-every: {error}") from None
