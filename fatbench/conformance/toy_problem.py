"""Toy problem: the small setting in which a method is checked; a smooth net, pixels on the bounds of the box."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from fatbench.config.spec import Precision
from fatbench.conformance.sandbox import sandboxed
from fatbench.data.loader import Loader
from fatbench.interface import Batch, Context
from fatbench.methods import Description, Method, again
from fatbench.models.classifier import Classifier
from fatbench.threat import make_ball
from fatbench.training.clock import Clock
from fatbench.training.loop import Training
from fatbench.training.schedule import Budget

EPS = {"linf": 0.1, "l2": 0.6}
BATCHES = 3
_RATE = 0.1
_CPU = torch.device("cpu")


@dataclass(frozen=True)
class ToyProblem:
    """Its sizes; everything in it is deterministic."""

    norm: str = "linf"
    channels: int = 1
    classes: int = 3
    side: int = 8  # pixels
    batch_size: int = 6
    num_train: int = 13  # as no other size is, so that memory of single images is known by it
    pad: int = 0  # random crops
    flip: bool = False
    precision: Precision = "fp32"

    def model(self) -> Classifier:
        """A net with batch norm and smooth activations, in train mode."""
        with torch.random.fork_rng([]):
            torch.manual_seed(0)
            layers = [nn.Conv2d(self.channels, 4, 3, padding=1), nn.BatchNorm2d(4), nn.Softplus()]
            layers += [nn.Conv2d(4, 6, 3, stride=2, padding=1), nn.BatchNorm2d(6), nn.Tanh(), nn.Flatten()]
            net = nn.Sequential(*layers, nn.Linear(6 * ((self.side + 1) // 2) ** 2, self.classes))
        return Classifier(net, [0.4] * self.channels, [0.3] * self.channels, self.precision)

    def loader(self) -> Loader:
        """Of images of which about a fifth of the pixels is exactly 0, a fifth exactly 1."""
        random = torch.Generator().manual_seed(1)
        shape = (self.num_train, self.channels, self.side, self.side)
        images = torch.rand(shape, generator=random).mul(1.6).sub(0.3).clamp(0, 1).mul(255).to(torch.uint8)
        labels = torch.arange(self.num_train) % self.classes
        return Loader(images, labels, batch_size=self.batch_size, seed=0, pad=self.pad, flip=self.flip)

    def context(self) -> Context:
        """A fresh one."""
        return Context(make_ball(self.norm, EPS[self.norm]), self.num_train, torch.tensor(0), torch.tensor(0.0))

    def training(self, method: Method) -> Training:
        """A training as the reference engine has it, not started."""
        model = self.model()
        return Training(
            model=model,
            method=method,
            loader=self.loader(),
            ctx=self.context(),
            optimizer=optimizer(model),
            schedule="constant",
            peak_lr=_RATE,
            budget=Budget(steps=10_000),
            clock=Clock(_CPU),
        )


def optimizer(model: nn.Module) -> torch.optim.SGD:
    """What steps the weights here."""
    return torch.optim.SGD(model.parameters(), lr=_RATE, momentum=0.9, weight_decay=5e-3)


def batches(problem: ToyProblem, ctx: Context, *, dtype: torch.dtype = torch.float64) -> Iterator[Batch]:
    """Yield the first batches of a training, with `ctx` set for each of them as the trainer sets it."""
    loader = problem.loader()
    for number in range(BATCHES):
        plan = loader.plan(number)
        ctx.crop_flip = loader.crop_flip(plan)
        ctx.step.fill_(number)
        ctx.progress.fill_(number / BATCHES)
        x, y, ids = loader.gather(plan)
        yield Batch(x.to(dtype), y, ids)


def losses(
    problem: ToyProblem, method: Method, model: nn.Module, ctx: Context, *, dtype: torch.dtype = torch.float64
) -> Iterator[tuple[Batch, Tensor]]:
    """Yield every loss of the first batches with its batch; the optimiser step is taken when the next is asked for."""
    steps = optimizer(model)
    for batch in batches(problem, ctx, dtype=dtype):
        for loss in method(model, batch, ctx):
            yield batch, loss
            loss.backward()  # type: ignore[no-untyped-call]
            steps.step()
            steps.zero_grad()


@dataclass(frozen=True)
class Case:
    """A method, and the norm in which it is checked."""

    method: Method  # guarded
    norm: str
    registered: bool  # one of fatbench's own: its card must be complete

    @property
    def description(self) -> Description:
        return self.method.description

    @property
    def problem(self) -> ToyProblem:
        """The usual one."""
        return ToyProblem(norm=self.norm)

    def again(self) -> Method:
        """The method as another process would have it: nothing is left of what it kept outside `ctx.buffers`."""
        return sandboxed(again(self.method))

    def variants(self) -> list[Method]:
        """The method at its defaults, and with every other word of every choice."""
        choices = ((one.name, word) for one in self.description.hyper.values() for word in one.choices)
        others = [{name: word} for name, word in choices if word != self.method.hyper[name]]
        return [replace(self.method, hyper={**self.method.hyper, **changed}) for changed in ({}, *others)]

    def losses(
        self, model: nn.Module, ctx: Context | None = None, method: Method | None = None
    ) -> Iterator[tuple[Batch, Tensor]]:
        """As `problem.losses`, of the first batches in float64."""
        return losses(self.problem, method or self.method, model, ctx or self.problem.context())
