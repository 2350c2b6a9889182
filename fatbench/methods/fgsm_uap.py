import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fatbench.interface import Batch, Context, Losses
from fatbench.ops import shared_input_gradient, smoothing_leaving

PASSES = {"forward": 2, "inputs": 3, "weights": 2, "batch_norm": 2}  # batch norm: start, end


def fgsm_uap(
    model: nn.Module,
    batch: Batch,
    ctx: Context,
    *,
    alpha: float = 1.0,
    uap_eps: float = 1.25,
    decay: float = 0.3,
    true_mass: float = 0.6,
    weight: float = 10.0,
    per_class: bool = False,
) -> Losses:
    """FGSM-UAP: start from one perturbation that hurts every image (Pan & Yao, AAAI 2024).

    The universal perturbation climbs along with training, by gradients that attack and loss have taken at the start
    anyway, so this memory of past attacks takes an image's room and no extra pass. Outputs of start and end are kept
    together.

    Args:
        alpha: step size of the attack, in units of eps.
        uap_eps: radius of the universal perturbation and its step, in units of eps (10/255 at eps 8/255).
        decay: how much of the universal perturbation's momentum each update keeps.
        true_mass: probability of the true class after label smoothing, in attack and loss, in [0, 1];
            --label-smoothing replaces it in the loss.
        weight: of the mean squared difference between the logits of start and end.
        per_class: one universal perturbation for each class (the authors' FGSM-CUAP).

    The universal perturbation follows the attack's gradient plus the loss's, which reaches the start through its
    logits: in the authors' code the second is added to the first in place, and their published results are of that.

    Differences: the universal perturbation begins as zero, where theirs is a random corner for the first two updates
        or so. The true class has exactly `true_mass`; their code's label_smoothing=0.4 leaves it 0.64 of ten classes.
        Their FGSM-FUAP, which chooses among fifty by a network of its own, is not here; weight averaging is
        the trainer's.
    """
    x, y, _ = batch
    radius, row = uap_eps * ctx.ball.eps, y if per_class else torch.zeros_like(y)

    def loss(z: Tensor) -> tuple[Tensor, Tensor]:
        logits = model(z)
        return F.cross_entropy(logits, y, label_smoothing=smoothing_leaving(true_mass, logits.shape[1])), logits

    # How many classes there are is first known from logits; until then the perturbations are zero.
    moved = x + ctx.buffers["uap"][row] if "uap" in ctx.buffers else x
    start = ctx.ball.project(moved, x).requires_grad_()  # a leaf: the loss's backward pass leaves its gradient there
    gradient, before = shared_input_gradient(loss, start)
    logits = model(ctx.ball.step(start, gradient, alpha, x))
    smoothing = ctx.smoothing or smoothing_leaving(true_mass, logits.shape[1])
    uaps = x.new_empty(logits.shape[1] if per_class else 1, *x.shape[1:])
    uap, momentum = ctx.buffer("uap", like=uaps), ctx.buffer("momentum", like=uaps)
    yield F.cross_entropy(logits, y, label_smoothing=smoothing) + weight * F.mse_loss(logits, before)

    assert start.grad is not None  # the trainer's backward pass reached it
    gradient = gradient + start.grad
    members = (row == torch.arange(len(uap), device=row.device).view(-1, 1)).to(gradient)
    count = members.sum(1, keepdim=True)
    length = gradient.abs().sum().clamp_min(torch.finfo(x.dtype).tiny)  # of the batch's, as the authors have it
    mean = members / count.clamp_min(1.0) @ (gradient / length).flatten(1)
    met = (count > 0).view(-1, 1, 1, 1)
    momentum.copy_(torch.where(met, mean.view_as(uap) + decay * momentum, momentum))
    uap.copy_(torch.where(met, (uap + radius * momentum.sign()).clamp(-radius, radius), uap))
