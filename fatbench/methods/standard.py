import torch.nn.functional as F
from torch import nn

from fatbench.interface import Batch, Context, Losses

NORMS = ("linf", "l2")
PASSES = {"forward": 1, "inputs": 1, "weights": 1, "batch_norm": 1}


def standard(model: nn.Module, batch: Batch, ctx: Context) -> Losses:
    """Standard training: cross-entropy on clean images, no attack.

    The unit of cost (3 passes), and the row that shows what robustness is without adversarial training.

    Differences: Rice et al.'s script sends the images forward in train mode once more after each step, for its log. No
        gradient depends on it; but batch norm's running statistics count every batch twice there, the second time as
        the new weights see it, and so does whatever is evaluated with them. Here each batch counts once.
    """
    yield F.cross_entropy(model(batch.x), batch.y, label_smoothing=ctx.smoothing)
