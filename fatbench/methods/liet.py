import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fatbench.interface import Batch, Context, Losses
from fatbench.ops import evaluating, input_gradient_with, kl, shared_input_gradient, smoothing_leaving

LEAVES_BOX = "label information is read off grey images, which are near no image of the batch"
# A grey image is one more forward and backward. Batch norm is updated by: start, end.
PASSES = {"forward": "2 + renewed / batch", "inputs": "3 + renewed / batch", "weights": 2, "batch_norm": 2}


def liet(
    model: nn.Module,
    batch: Batch,
    ctx: Context,
    *,
    alpha: float = 1.0,
    true_mass: float = 0.4,
    weight: float = 100.0,
    min_mask: float = 0.1,
    max_mask: float = 0.5,
    renewed: int = 1,
) -> Losses:
    """LIET: start from what the model takes for a label (Pan et al., ICCV 2025).

    Perturbations that tell the label let a model overfit to them. What they have in common shows on a grey image: each
    class's is added to its images or taken from them, with noise instead here and there, and the attack goes on from
    there. Smoothed labels give what the true class gives away to the others at random.

    Args:
        alpha: step size of the attack, in units of eps.
        true_mass: probability of the true class after label smoothing, in attack and loss, in [0, 1];
            --label-smoothing replaces it in the loss.
        weight: of the Jensen-Shannon divergence between the outputs of start and end, when training ends; it rises
            linearly from zero.
        min_mask: least share of values that start from noise instead, in [0, 1].
        max_mask: greatest share, in [0, 1]; one is drawn per batch.
        renewed: classes read anew in each update, at most all. By the FLOPs in their logs at eps 8/255 the authors read
            ten of ten in every tenth update, and for CIFAR-100 a hundred in every twentieth: five.

    Differences: the authors read all classes at once; here they take turns at the same cost, so that every update is
        the same work, and until its first turn a class has no information. Their configuration has stood at every
        twentieth update for CIFAR-10 at 8/255 as well, half of what is read here. The divergence's weight rises with
        every update, theirs with every epoch. For CIFAR-100 they set true_mass=0.2 weight=200. Above eps 8/255 they
        also let noise reach 2 eps and do not project onto the ball, which is not done here; their other settings there
        are min_mask=0 max_mask=1 true_mass=0.6 weight=20. Weight averaging is the trainer's.
    """
    x, y, _ = batch

    def smoothed(logits: Tensor, labels: Tensor, given: float = 0.0) -> Tensor:
        classes = logits.shape[1]
        given_away = (given or smoothing_leaving(true_mass, classes)) * (classes - 1) / classes
        share = torch.rand_like(logits).scatter(1, labels.view(-1, 1), 0.0)
        target = given_away * share / share.sum(1, keepdim=True).clamp_min(1e-12)  # of two classes, one may draw 0
        return F.cross_entropy(logits, target.scatter(1, labels.view(-1, 1), 1.0 - given_away))

    def turn(logits: Tensor) -> Tensor:
        return (ctx.step * renewed + torch.arange(renewed, device=x.device)) % logits.shape[1]

    def read(grey: Tensor) -> tuple[Tensor, Tensor]:
        logits = model(grey)
        return smoothed(logits, turn(logits)), logits

    def loss(z: Tensor) -> tuple[Tensor, Tensor]:
        logits = model(z)
        return smoothed(logits, y), logits

    with evaluating(model):
        gradient, logits = input_gradient_with(read, x.new_full((renewed, *x.shape[1:]), 0.5))
    information = ctx.buffer("information", like=x.new_empty(logits.shape[1], *x.shape[1:]))
    information.index_copy_(0, turn(logits), gradient.sign())

    mask, noise = torch.rand_like(x), ctx.ball.sample(x)
    masked = min_mask + (max_mask - min_mask) * x.new_empty(()).uniform_()
    side = 1.0 - 2.0 * (x.new_empty(()).uniform_() < 0.5)
    delta = torch.where(mask < masked, noise, ctx.ball.eps * information[y])
    start = ctx.ball.project(x + side * delta, x)
    gradient, before = shared_input_gradient(loss, start)
    logits = model(ctx.ball.step(start, gradient, alpha, x))

    middle = torch.logaddexp(F.log_softmax(before, 1), F.log_softmax(logits, 1))  # of both, up to a constant
    divergence = (kl(before, middle) + kl(logits, middle)).mean() / 2
    yield smoothed(logits, y, ctx.smoothing) + weight * ctx.progress.to(x) * divergence
