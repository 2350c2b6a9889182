import torch.nn.functional as F
from torch import Tensor, nn

from fatbench.interface import Batch, Context, Losses
from fatbench.ops import input_gradient

# What an optimiser step costs: passes per image, and updates of batch norm; hyper-parameters may be in it: "steps + 1"
PASSES = {"forward": 2, "inputs": 2, "weights": 1, "batch_norm": 2}

# What is not the rule is declared here, in capitals, each with its reason. Leave out what does not hold:
#   NORMS = ("linf", "l2")           the norms it is defined in; without, linf
#   REACH = 2.0                      it trains on images up to so many eps away
#   LEAVES_BOX = "why"               its attack shows the model pixels outside ball or box
#   TRAINS_OUTSIDE = "why"           and so does the loss that trains
#   NOT_CAPTURABLE = "why"           an update cannot be one CUDA graph
#   NOT_COMPILABLE = "why"           the network cannot go through torch.compile


def my_idea(model: nn.Module, batch: Batch, ctx: Context, *, alpha: float = 1.25) -> Losses:
    """Say here in one line what it is, with its citation (Author et al., VENUE YEAR).

    Say here in a sentence or two what the idea is. As it stands this is FGSM from a start that is carried on: where the
    last batch's perturbation lies, the next one begins.

    Args:
        alpha: step size, in units of eps.

    Differences: none. Say here where it differs from its authors' code, and why.
    """
    x, y, _ = batch  # images in [0, 1], labels, and rows of the training set

    # What outlives a batch lives in a buffer, zeros at first: it is kept with the run, which may be resumed anywhere.
    # One value for each training image would be: ctx.buffer("name", like=x, rows=ctx.num_train)[ids]
    delta = ctx.buffer("delta", like=x)

    # Gradients of the images by `input_gradient`: those of the weights are neither computed nor touched. The sum keeps
    # an image's gradient independent of the batch's size. An attack in eval mode goes inside `with evaluating(model):`.
    def loss(z: Tensor) -> Tensor:
        return F.cross_entropy(model(z), y, reduction="sum")

    # Project first, then differentiate there. Sizes are in units of eps, so that the defaults hold at any eps and norm.
    start = ctx.ball.project(x + delta, x)
    x_adv = ctx.ball.step(start, input_gradient(loss, start), alpha, x)

    # A yielded loss is one step of the optimiser, which is the trainer's; several may be yielded. The flag
    # --label-smoothing reaches it by ctx.smoothing.
    yield F.cross_entropy(model(x_adv), y, label_smoothing=ctx.smoothing)

    # Afterwards, buffers are changed: in place, and to what carries no graph. Nothing here may wait for the device or
    # depend on numbers that only it knows: no .item(), no boolean indexing, no `if` on ctx.step.
    delta.copy_(x_adv - x)
