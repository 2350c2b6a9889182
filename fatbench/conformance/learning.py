"""Learning: two classes that nobody could take for each other, and what a linear model makes of them by a method."""

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from fatbench.conformance.toy_problem import EPS
from fatbench.data.loader import Loader, to_float
from fatbench.interface import Batch, Context
from fatbench.methods import Method
from fatbench.models.classifier import Classifier
from fatbench.threat import make_ball

BATCHES = 30
_RATE = 0.01  # small, and without momentum: where weights swing, the last step decides what they say
_COUNT, _SIDE, _BATCH_SIZE = 64, 8, 16


def learnt(method: Method, norm: str) -> float:
    """Return the share of clean images that a linear model has right after a short training; of two classes."""
    images, labels = _images()
    model = Classifier(_linear(), [0.5], [0.3], "fp32")
    loader = Loader(images, labels, batch_size=_BATCH_SIZE, seed=0, pad=0, flip=False)
    ctx = Context(make_ball(norm, EPS[norm]), _COUNT, torch.tensor(0), torch.tensor(0.0))
    optimizer = torch.optim.SGD(model.parameters(), lr=_RATE)
    for batch in _batches(loader, ctx):
        for loss in method(model, batch, ctx):
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            optimizer.zero_grad()
    with torch.no_grad():
        return float((model(to_float(images)).argmax(1) == labels).float().mean())


def _batches(loader: Loader, ctx: Context) -> Iterator[Batch]:
    for number in range(BATCHES):
        plan = loader.plan(number)
        ctx.crop_flip = loader.crop_flip(plan)
        ctx.step.fill_(number)
        ctx.progress.fill_(number / BATCHES)
        yield loader.gather(plan)


def _images() -> tuple[Tensor, Tensor]:
    """A checkerboard with noise, and its negative; farther from each other than the ball is wide."""
    random = torch.Generator().manual_seed(2)
    labels = torch.arange(_COUNT) % 2
    squares = torch.tensor([[1.0, -1.0], [-1.0, 1.0]]).repeat(_SIDE // 2, _SIDE // 2)
    noise = torch.rand((_COUNT, 1, _SIDE, _SIDE), generator=random) - 0.5
    images = 0.5 + 0.3 * squares * (2 * labels - 1).view(-1, 1, 1, 1) + 0.1 * noise
    return images.mul(255).to(torch.uint8), labels


def _linear() -> nn.Module:
    """A small start, soon forgotten: what is learnt shows, not what chance began with."""
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        layer = nn.Linear(_SIDE**2, 2)
    with torch.no_grad():
        for weight in layer.parameters():
            weight.mul_(0.1)
    return nn.Sequential(nn.Flatten(), layer)
