import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fatbench.interface import Batch, Context, Losses
from fatbench.ops import evaluating, input_gradient, repeating_statistics

NOT_CAPTURABLE = "the host waits for a singular value decomposition's verdict on itself"
# Batch norm is updated by: clean, adversarial, and once more by clean if so set.
PASSES = {"forward": 3, "inputs": 3, "weights": 2, "batch_norm": "2 + clean_twice"}


def nuat(
    model: nn.Module,
    batch: Batch,
    ctx: Context,
    *,
    alpha: float = 1.0,
    noise: float = 0.5,
    weight: float = 4.5,
    ramp: float = 0.9,
    clean_twice: bool = False,
) -> Losses:
    """NuAT: smooth the function by the nuclear norm of how a batch's logits change (Sriramanan et al., NeurIPS 2021).

    As GAT, with another distance: the sum of the singular values of clean less perturbed logits, a matrix of images by
    classes.

    Args:
        alpha: step size, in units of eps.
        noise: how far each pixel starts from the image, up or down at random, in units of eps.
        weight: of the norm divided by the number of images, in attack and loss, once fully grown; made for batches of
            64. As long as images are many more than classes, the norm grows with about the root of their number, and
            sqrt(batch / 64) times as much weighs the same: 6.4 at 128.
        ramp: share of the training in which the weight grows from 0 to that, in [0, 1].
        clean_twice: whether batch norm's running statistics count the clean images once more, after the adversarial
            ones, as a second forward in the authors' loop makes them. Later attacks and every evaluation see it.

    Differences: the authors run the clean train-mode forward twice, before and after the attack. The weights are the
        same then and batch norm uses the batch's own statistics, so output and gradients are too, and here it is one;
        what the second does to the running statistics is `clean_twice`, off by default and on in their recipe. The
        weight grows with every batch, theirs with every epoch of 100. Odd and even batches are told apart by their
        number in the run; they count anew in every epoch, and leave the norm out of even attacks, where here it counts
        0. The norm is divided by the images in the batch, theirs by the batch size they set, for a smaller last batch
        too. Singular values of 0, at which the norm has no gradient, are given none.
    """
    x, y, _ = batch
    weight_now = weight * (ctx.progress / max(ramp, 1e-9)).clamp(max=1.0)
    guided = ctx.step % 2
    with repeating_statistics(model, clean_twice) as repeat:
        logits = model(x)
    clean = logits.detach()

    def objective(z: Tensor) -> Tensor:
        z_logits = model(z)
        return F.cross_entropy(z_logits, y, reduction="sum") + guided * weight_now * _nuclear_norm(clean - z_logits)

    start = ctx.ball.project(x + noise * ctx.ball.eps * (0.5 - torch.rand_like(x)).sign(), x)
    with evaluating(model):
        x_adv = ctx.ball.step(start, input_gradient(objective, start), alpha, x)

    norm = _nuclear_norm(logits - model(x_adv))
    repeat()
    yield F.cross_entropy(logits, y, label_smoothing=ctx.smoothing) + weight_now * norm / len(x)


def _nuclear_norm(matrix: Tensor) -> Tensor:
    """Return the sum of the singular values, whose gradient is finite for every finite matrix, of any rank.

    With matrix = U S V' it is the inner product of the matrix and U V', which is its gradient too; so no decomposition
    is differentiated. A matrix that is not finite has a norm that is none, where decomposing it would be an error.
    """
    with torch.no_grad():
        u, s, v = torch.linalg.svd(matrix.nan_to_num(0.0, 0.0, 0.0), full_matrices=False)
        nonzero = s > s[0] * max(matrix.shape) * torch.finfo(s.dtype).eps
        gradient = (u * nonzero) @ v
    norm: Tensor = (matrix * gradient).sum()
    return norm
