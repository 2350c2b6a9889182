"""What AutoAttack may not do: leave the ball or the box."""

from torch import Tensor

from fatbench.errors import InvalidRunError
from fatbench.threat import Ball


def check_box(x: Tensor, what: str) -> None:
    """The library clips to [0, 1] whatever it is given, so other inputs would be moved far beyond eps, silently.

    Raises:
        InvalidRunError: a pixel lies outside.
    """
    low, high = float(x.min()), float(x.max())
    if not (low >= -1e-6 and high <= 1 + 1e-6):
        raise InvalidRunError(f"{what} span [{low:.3g}, {high:.3g}], not [0, 1]: normalise inside the model")


def check_allowed(x_adv: Tensor, x: Tensor, ball: Ball) -> None:
    """Hold the library to its promise: a "break" outside ball or box would be none.

    Raises:
        InvalidRunError: one of the images x_adv is not a permitted change of its original in x, both (B, C, H, W).
    """
    if not len(x):
        return
    furthest = float(ball.distance(x_adv, x).max())
    if not furthest <= ball.eps * (1 + 1e-4) + 1e-6:
        raise InvalidRunError(f"AutoAttack moved an image by {furthest:.6g}, more than eps {ball.eps:.6g}")
    check_box(x_adv, "AutoAttack's images")
