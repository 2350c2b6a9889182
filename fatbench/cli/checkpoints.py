"""How often a user wants the state of a training kept."""

from fatbench.config.parsing import CheckpointInterval, parse_interval
from fatbench.errors import UsageError

EVERY_HELP = "How often to keep the training's state: 60s (or 60), 10m, 1h, 1e (each epoch) or none."


def checkpoint_interval(text: str) -> CheckpointInterval:
    """Return what --checkpoint-every `text` stands for.

    Raises:
        UsageError: it cannot be right.
    """
    try:
        return parse_interval(text)
    except ValueError as error:
        raise UsageError(f"--checkpoint-every: {error}") from None
