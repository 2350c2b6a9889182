from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fatbench.interface import Batch, Context, Losses
from fatbench.ops import evaluating, input_gradient, kl

LEAVES_BOX = "the start x + noise is not clamped, as in the authors' code"
# With base="trades" one more of each.
PASSES = {"forward": "steps + 1", "inputs": "steps + 1", "weights": 1, "batch_norm": 1}


def atta(
    model: nn.Module,
    batch: Batch,
    ctx: Context,
    *,
    steps: int = 1,
    alpha: float = 0.4839,
    reset: float = 10.0,
    noise: float = 0.0323,
    loss: Literal["at", "trades"] = "at",
    beta: float = 6.0,
) -> Losses:
    """ATTA: take up each image's attack where the last epoch left it (Zheng et al., CVPR 2020, arXiv 1912.11969).

    Adversarial images still are so for the next epoch's model, so short attacks add up to long ones; what an image
    remembers lies in its padded frame, and is cropped and mirrored with it.

    Args:
        steps: gradient steps of the attack (1, 3 and 10 in the paper).
        alpha: step size, in units of eps (0.015 at eps 0.031; for 3 and 10 steps 0.01 and 0.007).
        reset: passes over the data between fresh starts; 0: one each time.
        noise: standard deviation of the Gaussian start, in units of eps (0.001 at eps 0.031).
        loss: "at" trains on adversarial images alone (MAT in the paper), "trades" on the loss of TRADES.
        beta: weight of the divergence in the loss of TRADES.

    Memory: a padded image, and a number, for each training image.
    Differences: the authors divide the mean cross-entropy of "at" by the batch size (64) once more, which is a 64th of
        the learning rate with 64 times the weight decay; here it is the mean. With "trades" too their script attacks
        the cross-entropy, as here. They pad with grey, here it is black. Their first fresh start comes a pass earlier,
        after 9, and fresh noise is drawn for all images at once, here when an image comes up. What is remembered is the
        perturbation, theirs is the perturbed image.
    """
    x, y, ids = batch
    frame = F.pad(x, (ctx.crop_flip.pad,) * 4)
    offsets = ctx.buffer("offsets", like=frame, rows=ctx.num_train)  # in units of eps, where bfloat16 has a 1 as well
    born, period = ctx.buffer("born", like=ids, rows=ctx.num_train), ctx.period(reset, x)
    fresh = (born[ids] < period).view(-1, 1, 1, 1)
    offset = torch.where(fresh, noise * torch.randn_like(frame), offsets[ids].to(x))
    x_adv = x + ctx.ball.eps * ctx.crop_flip.crop(offset)

    def harm(z: Tensor) -> Tensor:
        return F.cross_entropy(model(z), y, reduction="sum")

    with evaluating(model):
        for _ in range(steps):
            x_adv = ctx.ball.step(x_adv, input_gradient(harm, x_adv), alpha, x)

    if loss == "at":
        yield F.cross_entropy(model(x_adv), y, label_smoothing=ctx.smoothing)
    else:
        logits = model(x)
        yield F.cross_entropy(logits, y, label_smoothing=ctx.smoothing) + beta * kl(logits, model(x_adv)).mean()
    offsets[ids] = ctx.crop_flip.paste((x_adv - x) / ctx.ball.eps, offset).to(offsets)
    born[ids] = period
