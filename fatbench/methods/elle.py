import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fatbench.interface import Batch, Context, Losses
from fatbench.ops import input_gradient

TRAINS_OUTSIDE = "neither the attack nor the points where linearity is tested are clamped, as in the authors' code"
# Batch norm is updated by: attack, adversarial images, and the three points of every image in one.
PASSES = {"forward": 5, "inputs": 5, "weights": 4, "batch_norm": 3}


def elle(
    model: nn.Module,
    batch: Batch,
    ctx: Context,
    *,
    alpha: float = 1.0,
    noise: float = 0.0,
    weight: float = 1000.0,
    adaptive: bool = False,
    peak: float = 4000.0,
    sensitivity: float = 2.0,
    decay: float = 0.99,
) -> Losses:
    """ELLE: keep the loss linear inside the ball, without second derivatives (Abad Rocamora et al., ICLR 2024).

    What GradAlign asks of gradients is asked of the loss itself: at a random point between two random points of the
    ball it should be what linear interpolation says. The squared error of that is added to the loss of FGSM training.

    Args:
        alpha: step size, in units of eps.
        noise: radius of the uniform start, in units of eps; 0 is FGSM, 2 N-FGSM + ELLE, with images up to 3 eps away.
        weight: of the linearity error; in the authors' scripts 1000 up to eps 8/255, 5000 up to 20/255, then 10000.
        adaptive: ELLE-A: in place of `weight`, one that is 0 until the error jumps.
        peak: the adaptive weight after a jump.
        sensitivity: an error is a jump when so many standard deviations above the mean of all before it.
        decay: factor of the adaptive weight from each batch to the next, unless there is a jump; in [0, 1].

    Differences: the authors' script calls its optimiser twice on every batch's gradients. That is a mistake of some
        consequence, as momentum is applied twice and steps are about twice as long; here it steps once, so their
        learning rates are not ours. Its forward of the clean images for the log, which moves batch norm's statistics,
        and the weight gradients in its attack are left out. `weight` and `peak` are those of the scripts; argparse's 1
        is used by none. Mean and deviation of the errors are running sums, the script's are of a list of them all. The
        linearity error is of plain cross-entropy, whatever the label smoothing.
    """
    x, y, _ = batch

    def loss(z: Tensor) -> Tensor:
        return F.cross_entropy(model(z), y, reduction="sum")

    start = x + ctx.ball.sample(x, noise)
    x_adv = start + alpha * ctx.ball.eps * input_gradient(loss, start).sign()
    adversarial = F.cross_entropy(model(x_adv), y, label_smoothing=ctx.smoothing)

    ends = x.repeat(2, 1, 1, 1)
    x_a, x_b = (ends + ctx.ball.sample(ends)).chunk(2)
    share = torch.rand_like(x[:, :1, :1, :1])
    points = torch.cat([x_a, x_b, (1 - share) * x_a + share * x_b])
    loss_a, loss_b, between = F.cross_entropy(model(points), y.repeat(3), reduction="none").chunk(3)
    share = share.flatten()
    error = (between - (1 - share) * loss_a - share * loss_b).square().mean()

    if not adaptive:
        yield adversarial + weight * error
        return
    current = ctx.buffer("weight", like=error)
    yield adversarial + current * error
    jumped = _jumped(error.detach(), ctx, sensitivity)
    current.mul_(decay).masked_fill_(jumped, peak)


def _jumped(value: Tensor, ctx: Context, sensitivity: float) -> Tensor:
    """Return whether the value is far above those of all calls before, at least three; then count it among them.

    By Welford's sums, so that deviations small beside the mean are not lost.
    """
    count, mean, squares = (ctx.buffer(name, like=value) for name in ("count", "mean", "squares"))
    deviation = (squares / count.clamp_min(1)).sqrt()
    jumped = (count > 2) & (value > mean + sensitivity * deviation)
    count.add_(1)
    off = value - mean
    mean.add_(off / count)
    squares.add_(off * (value - mean))
    return jumped
