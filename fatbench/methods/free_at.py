import torch.nn.functional as F
from torch import nn

from fatbench.interface import Batch, Context, Losses

SEVERAL_UPDATES = "every replay's attack is the last replay's update"
PASSES = {"forward": 1, "inputs": 1, "weights": 1, "batch_norm": 1}


def free_at(model: nn.Module, batch: Batch, ctx: Context, *, replays: int = 8, alpha: float = 1.0) -> Losses:
    """Free AT: one backward pass serves both players (Shafahi et al., NeurIPS 2019).

    Each batch is replayed; every replay's backward pass gives the weights' gradient and the perturbation's, and the
    perturbation is carried on, by slot in the batch, to the next replay, batch and epoch.

    Args:
        replays: optimiser steps per batch; N epochs of steps see N / replays passes over the data.
        alpha: step size of the perturbation, in units of eps.

    Differences: the carried perturbation is projected into the new images' box before the first replay, where Wong et
        al.'s port of it projects only after each update, so that the model never sees pixels outside [0, 1].
    """
    x, y, _ = batch
    delta = ctx.buffer("delta", like=x)
    for _ in range(replays):
        z = ctx.ball.project(x + delta, x).requires_grad_()  # a leaf inside ball and box
        yield F.cross_entropy(model(z), y, label_smoothing=ctx.smoothing)
        assert z.grad is not None  # the trainer's backward pass reached it
        delta.copy_(ctx.ball.step(z.detach(), z.grad, alpha, x) - x)
