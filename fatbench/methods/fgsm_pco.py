import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fatbench.interface import Batch, Context, Losses
from fatbench.ops import shared_input_gradient, smoothing_leaving

REACH = 1.5  # `stretch` of the step
TRAINS_OUTSIDE = "neither the start nor the mixture is clamped to the box, as in the authors' code"
NOT_COMPILABLE = "attack and loss go back through one forward, which torch does not promise of compiled code"
PASSES = {"forward": 3, "inputs": 4, "weights": 3, "batch_norm": 3}  # batch norm: last, mixture, new


def fgsm_pco(
    model: nn.Module,
    batch: Batch,
    ctx: Context,
    *,
    alpha: float = 1.0,
    stretch: float = 1.5,
    mse: float = 10.0,
    true_mass: float = 0.6,
) -> Losses:
    """FGSM-PCO: train between the image's last perturbation and the next (Wang et al., ECCV 2024, arXiv 2407.12443).

    The surer the model is of the last adversarial image, the more of the new one there is in the mixture that it trains
    on: should the one-step attack collapse, the mixture follows it only as far as the model believes.

    Args:
        alpha: step size, in units of eps.
        stretch: how far beyond itself the new perturbation is drawn out in the mixture.
        mse: weight of the difference between two mean squared distances of the new image's logits: from those of the
            last one, and from those of the mixture.
        true_mass: what smoothing of labels leaves to the true class, in [0, 1]; --label-smoothing replaces it in the
            loss, not in the attack.

    Memory: an image, and a number, for each training image.
    Differences: the authors compute weight gradients in the attack and discard them; here they are not computed. The
        first perturbation is drawn when an image comes up, theirs for all images at once. The defaults are those of
        their script; their README names none.
    """
    x, y, ids = batch
    offsets = ctx.buffer("offsets", like=x, rows=ctx.num_train)  # in units of eps, where bfloat16 has a 1 as well
    seen = ctx.buffer("seen", like=ids, rows=ctx.num_train)
    corner = min(alpha, 1.0) * ctx.ball.sample(x).sign()
    start = x + ctx.ball.eps * torch.where(seen[ids].view(-1, 1, 1, 1) == 0, corner, offsets[ids].to(x))

    def smoothed(logits: Tensor, given: float) -> Tensor:
        own = smoothing_leaving(true_mass, logits.shape[1])
        return F.cross_entropy(logits, y, label_smoothing=given or own)

    def loss(z: Tensor) -> tuple[Tensor, Tensor]:
        logits = model(z)
        return smoothed(logits, 0.0), logits

    gradient, last = shared_input_gradient(loss, start)
    x_adv = ctx.ball.step(start, gradient, alpha, x)
    sureness = last.softmax(1).gather(1, y[:, None]).view(-1, 1, 1, 1)  # not detached: the mixture trains it too
    mixture = (1 - sureness) * start + sureness * (x + stretch * (x_adv - x))
    mixed, new = model(mixture), model(x_adv)
    yield smoothed(mixed, ctx.smoothing) + mse * (F.mse_loss(new, last) - F.mse_loss(new, mixed)).abs()

    offsets[ids] = ((x_adv - x) / ctx.ball.eps).to(offsets)
    seen.index_fill_(0, ids, 1)  # an assignment would copy the number from the host and wait for it
