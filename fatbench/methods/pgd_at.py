import torch.nn.functional as F
from torch import Tensor, nn

from fatbench.interface import Batch, Context, Losses
from fatbench.ops import input_gradient

NORMS = ("linf", "l2")
PASSES = {"forward": "steps + 1", "inputs": "steps + 1", "weights": 1, "batch_norm": "steps + 1"}


def pgd_at(model: nn.Module, batch: Batch, ctx: Context, *, steps: int = 10, alpha: float = 0.25) -> Losses:
    """PGD-AT: train on the result of several projected gradient steps (Madry et al., ICLR 2018).

    The slow reference of robust training. Recipe of Rice et al. (ICML 2020): random start, attack in train mode.

    Args:
        steps: gradient steps of the attack.
        alpha: step size, in units of eps (2/255 at eps 8/255).

    Differences: Rice et al.'s script runs two more train-mode forwards per update (11 + 2 batch-norm updates at 10
        steps), of the adversarial images after the attack and, for its log, of the clean ones after the step. They move
        the running statistics alone, and what is evaluated with them. Neither they nor the weight gradients that it
        computes in the attack are here. Under L2 the start has a uniform length, as there; the step is `alpha` eps,
        where their script has a flag of its own, and projection clips to the box first, which keeps both constraints,
        where theirs clips last.
    """
    x, y, _ = batch

    def loss(z: Tensor) -> Tensor:
        return F.cross_entropy(model(z), y, reduction="sum")

    x_adv = ctx.ball.project(x + ctx.ball.sample(x), x)
    for _ in range(steps):
        x_adv = ctx.ball.step(x_adv, input_gradient(loss, x_adv), alpha, x)
    yield F.cross_entropy(model(x_adv), y, label_smoothing=ctx.smoothing)
