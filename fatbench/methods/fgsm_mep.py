import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fatbench.interface import Batch, Context, Losses
from fatbench.ops import shared_input_gradient, smoothing_leaving

TRAINS_OUTSIDE = "the start is part of the loss, and it is not clamped to the box, as in the authors' code"
NOT_COMPILABLE = "attack and loss go back through one forward, which torch does not promise of compiled code"
PASSES = {"forward": 2, "inputs": 3, "weights": 2, "batch_norm": 2}  # batch norm: start, adversarial


def fgsm_mep(
    model: nn.Module,
    batch: Batch,
    ctx: Context,
    *,
    alpha: float = 1.0,
    decay: float = 0.3,
    reset: float = 40.0,
    mse: float = 10.0,
    true_mass: float = 0.6,
) -> Losses:
    """FGSM-MEP (FGSM-PGI): start from what momentum made of the image's last perturbation (Jia et al., ECCV 2022).

    Every image remembers a perturbation and the decaying sum of its gradients; the step from there is plain FGSM, and
    the outputs before and after it are kept together.

    Args:
        alpha: step size, in units of eps, of the attack and of what is remembered.
        decay: what remains of the old sum, in [0, 1].
        reset: passes over the data between fresh starts, from a random corner of the ball; 0: one each time (10 in the
            authors' CIFAR-100 script).
        mse: weight of the mean squared distance between the logits before and after the step.
        true_mass: what smoothing of labels leaves to the true class, in [0, 1]; --label-smoothing replaces it in the
            loss, not in the attack.

    Memory: two images, and a number, for each training image.
    Differences: the authors compute weight gradients in the attack and discard them; here they are not computed. Fresh
        starts are drawn when an image comes up, theirs for all images at once. A gradient of nothing but zeros leaves
        the sum finite.
    """
    x, y, ids = batch
    offsets = ctx.buffer("offsets", like=x, rows=ctx.num_train)  # in units of eps, where bfloat16 has a 1 as well
    directions = ctx.buffer("directions", like=x, rows=ctx.num_train)
    born, period = ctx.buffer("born", like=ids, rows=ctx.num_train), ctx.period(reset, x)
    fresh = (born[ids] < period).view(-1, 1, 1, 1)
    corner = min(alpha, 1.0) * ctx.ball.sample(x).sign()
    start = x + ctx.ball.eps * torch.where(fresh, corner, offsets[ids].to(x))
    direction = directions[ids].to(x).masked_fill(fresh, 0.0)

    def smoothed(logits: Tensor, given: float) -> Tensor:
        own = smoothing_leaving(true_mass, logits.shape[1])
        return F.cross_entropy(logits, y, label_smoothing=given or own)

    def loss(z: Tensor) -> tuple[Tensor, Tensor]:
        logits = model(z)
        return smoothed(logits, 0.0), logits

    gradient, before = shared_input_gradient(loss, start)
    x_adv = ctx.ball.step(start, gradient, alpha, x)
    after = model(x_adv)
    yield smoothed(after, ctx.smoothing) + mse * F.mse_loss(after, before)

    length = gradient.abs().sum().clamp_min(torch.finfo(x.dtype).tiny)  # of the batch's, as the authors have it
    direction = gradient / length + decay * direction
    offsets[ids] = ((ctx.ball.step(start, direction, alpha, x) - x) / ctx.ball.eps).to(offsets)
    directions[ids] = direction.to(directions)
    born[ids] = period
