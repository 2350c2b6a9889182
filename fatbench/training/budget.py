"""How long to train: a number of optimiser steps, or of training seconds."""

from dataclasses import dataclass
from typing import Literal

_JUST_BELOW_ONE = 1.0 - 2.0**-24  # progress stays in [0, 1), in float32 too


@dataclass(frozen=True)
class Budget:
    """The bound of a run; one of the two is set."""

    steps: int | None = None
    seconds: float | None = None

    def progress(self, steps: int, seconds: float) -> float:
        """The fraction spent after `steps` optimiser steps and `seconds` of training, in [0, 1)."""
        spent = steps / self.steps if self.steps is not None else seconds / (self.seconds or 1.0)
        return min(spent, _JUST_BELOW_ONE)

    def spent(self, steps: int, seconds: float) -> bool:
        """Whether nothing is left."""
        return steps >= self.steps if self.steps is not None else seconds >= (self.seconds or 0.0)

    def leaves(self, more: int, steps: int) -> bool:
        """Whether `more` optimiser steps may follow `steps`; a budget of time is looked at between batches."""
        return self.steps is None or steps + more <= self.steps

    @property
    def kind(self) -> Literal["epochs", "time"]:
        """What bounds the run: "epochs" or "time"."""
        return "epochs" if self.steps is not None else "time"
