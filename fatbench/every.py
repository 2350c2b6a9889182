"""How often the state of a running training is kept. Nothing that is computed depends on it."""

import re
from typing import NamedTuple

from fatbench.notation import parse_seconds


class Every(NamedTuple):
    """So many epochs, or seconds, between two states; neither: only where a run is asked to leave off."""

    epochs: int | None = None
    seconds: float | None = None


EVERY_EPOCH = Every(epochs=1)


def parse_every(text: str) -> Every:
    """Return what "60s", "10m", "1h", "1e" (an epoch) or "none" stands for; a bare number counts seconds.

    Raises:
        ValueError: it is none of these.
    """
    text = text.strip()
    if text == "none":
        return Every()
    epochs = re.fullmatch(r"([1-9][0-9]{0,5})e", text)
    if epochs:
        return Every(epochs=int(epochs[1]))
    try:
        return Every(seconds=parse_seconds(text))
    except ValueError:
        raise ValueError(
            f"a state is kept every 60s (or 60), 10m, 1h or 1e (each epoch), or none, not '{text:.40}'"
        ) from None
