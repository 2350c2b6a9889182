"""Low margins: images that survive narrowly, where an attack on a surrogate may miss what one on the model finds."""

import torch
from torch import Tensor

from fatbench.evaluation.microbatch import Logits
from fatbench.ops import input_gradient_with
from fatbench.threat import Ball

_STEPS = 10  # of a quick attack; AutoAttack takes thousands of passes
_SIZE = 0.25  # of each, in units of eps


def lowest_margins(model: Logits, x: Tensor, y: Tensor, ball: Ball, share: float) -> Tensor:
    """Return the rows of the `share` of the images x, at least one if there are any, that a quick attack gets nearest.

    Near is a small margin: the label's logit less the largest other one, at the worst point of a few steps down it.
    """
    if not len(x):
        return torch.empty(0, dtype=torch.int64, device=x.device)

    def margins(z: Tensor) -> Tensor:
        logits = model(z)
        right = logits.gather(1, y[:, None]).squeeze(1)
        margin: Tensor = right - logits.scatter(1, y[:, None], float("-inf")).amax(1)
        return margin

    def total(leaf: Tensor) -> tuple[Tensor, Tensor]:
        each = margins(leaf)
        return each.sum(), each

    z, least = x, torch.full_like(y, float("inf"), dtype=x.dtype)
    for _ in range(_STEPS):
        gradient, margin = input_gradient_with(total, z)
        least = torch.minimum(least, margin)
        z = ball.step(z, -gradient, _SIZE, x)
    with torch.no_grad():
        least = torch.minimum(least, margins(z))
    return least.argsort()[: max(1, round(share * len(x)))]
