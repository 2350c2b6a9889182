"""Counted: what an update of a method costs really."""

from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from fatbench.conformance.declared import Cost
from fatbench.conformance.finding import Facts
from fatbench.conformance.stage import Stage
from fatbench.methods import Description, Method
from fatbench.training.passes import count_passes

_USUAL = Stage(channels=3, classes=10, side=32, batch_size=8)
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


def counted(method: Method, norm: str) -> tuple[Cost, int, int]:
    """Return the cost of one optimiser step, steps per batch, and bytes kept for each training image."""
    stage, model, statistics = _USUAL, _USUAL.model(), _Statistics()
    statistics.watch(next(module for module in model.modules() if isinstance(module, nn.BatchNorm2d)))
    ctx, batch = Stage(norm=norm).context(), stage.loader().batch(0)
    found = count_passes(model, method, batch, ctx)
    passes = found.passes.model_dump()
    shared = images() * found.updates
    cost = Cost(
        **{name: samples / shared for name, samples in passes.items()},
        batch_norm_updates=statistics.moves / found.updates,
    )
    per_image = [buffer.nbytes for buffer in ctx.buffers.values() if buffer.ndim and len(buffer) == ctx.num_train]
    return cost, found.updates, sum(per_image) // ctx.num_train


def facts(method: Method) -> Facts:
    """Return what the method costs, and what it says of itself."""
    description = method.description
    cost, updates, memory = counted(method, description.norms[0])
    return Facts(
        title=description.title,
        norms=description.norms,
        **vars(cost),
        updates=updates,
        memory=memory,
        heeds_smoothing=description.smooths,
        exceptions=_exceptions(description),
    )


def _exceptions(description: Description) -> dict[str, str]:
    reach = {"REACH": f"trains up to {description.reach:g} eps away"} if description.reach > 1 else {}
    constants = description.constants
    return reach | {name: str(constants[name]) for name in _EXCEPTIONS if constants.get(name)}
