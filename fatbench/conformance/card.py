"""Card: the docstring of a method, and whether the cost that it declares is the real one."""

from dataclasses import dataclass, field, replace

import torch
from torch import Tensor, nn

from fatbench.conformance.report import Facts, Verdict, failed, ok, unknown
from fatbench.conformance.toy_problem import Case, ToyProblem, batches
from fatbench.interface import Batch, Context
from fatbench.methods import Description, Method
from fatbench.methods._cost import FORM, Cost
from fatbench.training.passes import count_passes

_NEAR = 1e-6


def is_a_card(case: Case) -> Verdict:
    """The docstring has a title, the meaning of every hyper-parameter, and `Differences`."""
    description = case.description
    missing = [] if description.title else ["a title"]
    missing += [f"the meaning of {name} in Args" for name, hyper in description.hyper.items() if not hyper.meaning]
    missing += [f"'{name}: ...'" for name in ("Differences",) if f"{name}:" not in description.docstring]
    if not missing:
        return ok("title, hyper-parameters, differences")
    return _lacking(case, f"the docstring lacks {', '.join(missing)}")


def declares_passes(case: Case) -> Verdict:
    """The passes are the declared ones."""
    real, declared = _both(case)
    if declared is None:
        return _lacking(case, f"counted {real.passes}; not declared, as {FORM}")
    pairs = [(real.forward, declared.forward), (real.input_backward, declared.input_backward)]
    pairs += [(real.weight_backward, declared.weight_backward)]
    if any(abs(one - other) > _NEAR for one, other in pairs):
        return failed(f"counted {real.passes}; PASSES says {declared.passes}")
    return ok(real.passes)


def declares_batch_norm(case: Case) -> Verdict:
    """The updates of batch norm's statistics are the declared ones."""
    real, declared = _both(case)
    said = f"{real.batch_norm_updates:g} per optimiser step"
    if declared is None:
        return _lacking(case, f"{said}; not declared by PASSES")
    if abs(real.batch_norm_updates - declared.batch_norm_updates) > _NEAR:
        return failed(f"counted {said}; PASSES says {declared.batch_norm_updates:g}")
    return ok(said)


def _both(case: Case) -> tuple[Cost, Cost | None]:
    real, _ = counted(case.method, case.norm)
    return real, case.description.cost(case.method.hyper, _USUAL.batch_size)


def _lacking(case: Case, what: str) -> Verdict:
    """What a method of fatbench must have, and one's own may lack."""
    return failed(what) if case.registered else unknown(what)


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


def counted(method: Method, norm: str) -> tuple[Cost, int]:
    """Return the cost of one optimiser step, and steps per batch."""
    problem, statistics = replace(_USUAL, norm=norm), _Statistics()
    model = problem.model()
    statistics.watch(next(module for module in model.modules() if isinstance(module, nn.BatchNorm2d)))
    found = count_passes(model, method, *_first(problem))
    shared = _USUAL.batch_size * found.updates
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
