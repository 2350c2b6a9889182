"""How often a user wants the state of a training kept."""

from fatbench.errors import UsageError
from fatbench.every import Every, parse_every

EVERY_HELP = "How often to keep the training's state: 60s (or 60), 10m, 1h, 1e (each epoch) or none."


def every_of(text: str) -> Every:
    """Return what --checkpoint-every `text` stands for.

    Raises:
        UsageError: it cannot be right.
    """
    try:
        return parse_every(text)
    except ValueError as error:
        raise UsageError(f"--checkpoint-every: {error}") from None
