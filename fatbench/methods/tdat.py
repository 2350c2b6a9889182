import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fatbench.interface import Batch, Context, Losses
from fatbench.ops import shared_input_gradient

TRAINS_OUTSIDE = "the start, whose output the loss holds to the end's, is the last batch's perturbation on new images"
PASSES = {"forward": 2, "inputs": 3, "weights": 2, "batch_norm": 2}  # batch norm: start, end


def tdat(
    model: nn.Module,
    batch: Batch,
    ctx: Context,
    *,
    alpha: float = 1.0,
    batch_momentum: float = 0.0,
    beta: float = 0.6,
    floor: float = 0.15,
    weight: float = 0.6,
) -> Losses:
    """TDAT: labels that relax as training goes on (Tong et al., AAAI 2024, arXiv 2408.03944).

    Softer and softer labels take the weight off misclassified examples, and the doubtful ones are held most firmly to
    the output that they had at the start. The start is what the last batch's attack left, slot by slot.

    Args:
        alpha: step size, in units of eps.
        batch_momentum: how much of the carried perturbation each batch keeps, in [0, 1]. 0 carries the last one as it
            is, which is what the authors' code does; 0.75 is what it is told to do.
        beta: scale of the true class's mass, beta tan(1 - progress): at first 0.93, halfway 0.33.
        floor: below which the mass does not fall (0.05 for CIFAR-100), nor below one over classes;
            --label-smoothing replaces it in the loss.
        weight: of the squared difference between the logits of start and end (0.6 in the authors' README command; 0.65
            is their argparse default, and 0.05 what they logged for CIFAR-100).

    Differences: in the authors' script the average of perturbations is the same tensor as the last of them, and is
        overwritten by it besides: as published it has no batch momentum, hence the default 0. Labels relax with every
        update, theirs with every epoch. The perturbation begins as zero, theirs at a random corner, which a few batches
        forget. The weight of an image's difference is tanh(1 - confidence), theirs tanh(1.0000001 - confidence): 1.2e-7
        more at most. As theirs, the loss leaves the true class more than the attack does: torch's smoothing gives it a
        share.
    """
    x, y, _ = batch
    delta = ctx.buffer("delta", like=x)
    relaxing = beta * torch.tan(1.0 - ctx.progress.to(x))

    def mass(logits: Tensor) -> Tensor:
        return relaxing.clamp_min(max(floor, 1.0 / logits.shape[1]))

    def relaxed(logits: Tensor, smoothing: Tensor | float) -> Tensor:
        hard, even = F.cross_entropy(logits, y), F.cross_entropy(logits, y, label_smoothing=1.0)
        return hard + smoothing * (even - hard)

    def loss(z: Tensor) -> tuple[Tensor, Tensor]:
        logits = model(z)
        return relaxed(logits, (1.0 - mass(logits)) * logits.shape[1] / (logits.shape[1] - 1)), logits

    gradient, before = shared_input_gradient(loss, x + delta)
    x_adv = ctx.ball.step(x + delta, gradient, alpha, x)
    logits = model(x_adv)
    confidence = before.softmax(1).gather(1, y.view(-1, 1)).squeeze(1)
    apart = (torch.tanh(1.0 - confidence) * (logits - before).square().sum(1)).mean()
    yield relaxed(logits, ctx.smoothing or 1.0 - mass(logits)) + weight * apart
    delta.lerp_(x_adv - x, 1.0 - batch_momentum)
