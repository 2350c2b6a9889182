"""What the method tests share: a small smooth net, batches with pixels on the box's walls, and the shortest trainer."""

from collections.abc import Callable
from typing import NamedTuple

import pytest
import torch
from torch import Tensor, nn

from fatbench import methods
from fatbench.interface import Batch, Context
from fatbench.methods import Method
from fatbench.threat import make_ball

EPS = {"linf": 0.1, "l2": 0.6}
SGD = {"lr": 0.1, "momentum": 0.9, "weight_decay": 5e-3}
NUM_TRAIN = 10
# One method of each kind of state and of each engine's way: for tests that every method takes in `make slow`.
KINDS = ("bs-trades", "elle", "fgsm-mep", "fgsm-uap", "free-at", "grad-align", "pgd-at")


def of_every_kind(name: str) -> list[pytest.MarkDecorator]:
    """The marks of a method's case: it is slow, unless the method stands for its kind."""
    return [] if name in KINDS else [pytest.mark.slow]


def smooth_net() -> nn.Module:
    """The same float64 net at every call, in train mode; no kinks, so that rounding cannot send two twins apart."""
    torch.manual_seed(0)
    layers = [nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.Softplus(), nn.Conv2d(4, 6, 3, stride=2)]
    return nn.Sequential(*layers, nn.BatchNorm2d(6), nn.Tanh(), nn.Flatten(), nn.Linear(24, 3)).double()


def make_batches(count: int = 3, size: int = 6) -> list[Batch]:
    """Batches of 1x6x6 images; about a fifth of the pixels is exactly 0, a fifth exactly 1; images come back."""
    random = torch.Generator().manual_seed(1)
    images = torch.rand(NUM_TRAIN, 1, 6, 6, generator=random, dtype=torch.float64).mul(1.6).sub(0.3).clamp(0, 1)
    labels = torch.randint(3, (NUM_TRAIN,), generator=random)
    rows = [torch.randperm(NUM_TRAIN, generator=random)[:size] for _ in range(count)]
    return [Batch(images[ids], labels[ids], ids) for ids in rows]


def make_context(norm: str, eps: float | None = None, buffers: dict[str, Tensor] | None = None) -> Context:
    ball = make_ball(norm, EPS[norm] if eps is None else eps)
    return Context(ball, NUM_TRAIN, step=torch.tensor(0), progress=torch.tensor(0.0), buffers=buffers or {})


def make_optimizer(model: nn.Module) -> torch.optim.SGD:
    return torch.optim.SGD(model.parameters(), **SGD)


def train(method: methods.Method, model: nn.Module, batches: list[Batch], ctx: Context, opt: torch.optim.SGD) -> None:
    """The whole duty of a trainer."""
    for number, batch in enumerate(batches):
        ctx.step.fill_(number)
        ctx.progress.fill_(number / len(batches))
        for loss in method(model, batch, ctx):
            opt.zero_grad()
            loss.backward()
            opt.step()


class Wavy(nn.Module):
    """A layer whose output turns several times within a ball, so that attacks overshoot and gradients disagree."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.sin(40.0 * x)


def wavy_net() -> nn.Module:
    """As smooth_net, but far from linear within a ball."""
    return nn.Sequential(Wavy(), *smooth_net())


def trained(name: str, net: Callable[[], nn.Module] = smooth_net, **hyper: bool | float | str) -> dict[str, Tensor]:
    """The state of `net()` after three batches of the method."""
    model = net()
    torch.manual_seed(2)
    train(methods.load(name, **hyper), model, make_batches(), make_context("linf"), make_optimizer(model))
    return model.state_dict()


def same(state: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    """Whether two states agree, but for the last digits of float64."""
    return all(torch.allclose(value, other[key], rtol=0, atol=1e-12) for key, value in state.items())


class Seen(NamedTuple):
    """One forward of a model."""

    z: Tensor
    logits: Tensor


def first_loss(name: str, model: nn.Module, batch: Batch, **hyper: bool | float | str) -> tuple[Tensor, list[Seen]]:
    """The first loss of one batch, and what the model was shown and answered on the way, detached."""
    seen: list[Seen] = []
    hook = model.register_forward_hook(lambda _, z, logits: seen.append(Seen(z[0].detach().clone(), logits.detach())))
    loss = next(iter(methods.load(name, **hyper)(model, batch, make_context("linf"))))
    hook.remove()
    return loss.detach(), seen


def relu_net(channels: int = 1, width: int = 4, *, bias: bool = True) -> nn.Module:
    """A float32 net of two convolutions, as networks are: an attack's passes through it can be counted by hand."""
    layers = [nn.Conv2d(channels, 4, 3, padding=1, bias=bias), nn.BatchNorm2d(4), nn.ReLU()]
    return nn.Sequential(*layers, nn.Conv2d(4, width, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(width * 36, 5))


def six_images() -> Batch:
    """All images of a training set, as a batch."""
    return Batch(torch.rand(6, 1, 6, 6), torch.arange(6) % 5, torch.arange(6))


def context_of_six() -> Context:
    """What a method is given with `six_images`."""
    return Context(make_ball("linf", 0.1), 6, torch.tensor(0), torch.tensor(0.0))


def linear_net(classes: int) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(36, classes)).double()


def target_of(method: Method, model: nn.Module, batch: Batch, ctx: Context) -> Tensor:
    """Return the probabilities (B, K) from which the first loss, a cross-entropy of the last logits, is counted.

    The gradient of a mean cross-entropy at the logits is (softmax - target) / B.
    """
    seen: list[Tensor] = []
    handle = model.register_forward_hook(lambda _module, _inputs, logits: seen.append(logits))
    loss = next(method(model, batch, ctx))
    handle.remove()
    (gradient,) = torch.autograd.grad(loss, seen[-1])
    return seen[-1].softmax(1).detach() - len(batch.y) * gradient
