"""Counted: what an update of a method costs really."""

from dataclasses import dataclass, field, replace

import torch
from torch import Tensor, nn

from fatbench.conformance.report import Facts
from fatbench.conformance.toy_problem import ToyProblem, batches
from fatbench.interface import Batch, Context
from fatbench.methods import Description, Method
from fatbench.methods._cost import Cost
from fatbench.training.passes import count_passes

# Batches as large as they usually are, of images so small that this takes no time: passes do not depend on their size
_USUAL = ToyProblem(channels=3, classes=10, batch_size=128, num_train=131)
_CIFAR10 = ToyProblem(channels=3, classes=10, side=32, pad=4, flip=True)
_EXCEPTIONS = ("LEAVES_BOX", "TRAINS_OUTSIDE", "NOT_CAPTURABLE", "NOT_COMPILABLE")


@dataclass
class _Statistics:
    """How often a batch norm's running statistics move."""

    moves: int = 0
    _before: Tensor = field(default_factory=lambda: torch.zeros(()))

    def watch(self, norm: nn.BatchNorm2d) -> None:
        mean = norm.running_mean
        assert mean is not None

        def remember(*_: object) -> None:
            self._before = mean.clone()

        def compare(*_: object) -> None:
            self.moves += not torch.equal(self._before, mean)

        norm.register_forward_pre_hook(remember)
        norm.register_forward_hook(compare)


def images() -> int:
    """Images in the batch that is counted."""
    return _USUAL.batch_size


def counted(method: Method, norm: str) -> tuple[Cost, int]:
    """Return the cost of one optimiser step, and steps per batch."""
    problem, statistics = replace(_USUAL, norm=norm), _Statistics()
    model = problem.model()
    statistics.watch(next(module for module in model.modules() if isinstance(module, nn.BatchNorm2d)))
    found = count_passes(model, method, *_first(problem))
    shared = images() * found.updates
    passes = {name: samples / shared for name, samples in found.passes.model_dump().items()}
    return Cost(**passes, batch_norm_updates=statistics.moves / found.updates), found.updates


def kept(method: Method, norm: str) -> int:
    """Return the bytes that are kept for each training image, 3x32x32 with the usual frame for its crops."""
    problem = replace(_CIFAR10, norm=norm)
    batch, ctx = _first(problem)
    count_passes(problem.model(), method, batch, ctx)
    buffers = ctx.buffers.values()
    return sum(buffer.nbytes for buffer in buffers if buffer.ndim and len(buffer) == ctx.num_train) // ctx.num_train


def _first(problem: ToyProblem) -> tuple[Batch, Context]:
    ctx = problem.context()
    return next(batches(problem, ctx, dtype=torch.float32)), ctx


def facts(method: Method) -> Facts:
    """Return what the method costs, and what it says of itself."""
    description = method.description
    norm = description.norms[0]
    cost, updates = counted(method, norm)
    return Facts(
        title=description.title,
        norms=description.norms,
        **vars(cost),
        updates=updates,
        memory=kept(method, norm),
        heeds_smoothing=description.smooths,
        exceptions=_exceptions(description),
    )


def _exceptions(description: Description) -> dict[str, str]:
    reach = {"REACH": f"trains up to {description.reach:g} eps away"} if description.reach > 1 else {}
    constants = description.constants
    return reach | {name: str(constants[name]) for name in _EXCEPTIONS if constants.get(name)}
