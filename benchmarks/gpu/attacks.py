"""PGD for evaluation in float32: how fallen images are dropped, and which memory format is the fastest."""

from collections.abc import Callable
from itertools import product

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.gpu.prepared import setting
from benchmarks.gpu.scale import Run
from benchmarks.gpu.section import Section, rounded
from benchmarks.gpu.training import spec_for
from fatbench.data.loader import to_float
from fatbench.evaluation.attacks import PGD_ALPHA, is_correct, survives_pgd
from fatbench.evaluation.eval_mode import eval_mode, isolated_rng
from fatbench.ops import input_gradient_with
from fatbench.runner.setup import RunContext, set_up
from fatbench.threat import Ball
from fatbench.training.engine.capture import record_cuda_graph
from fatbench.training.preparation import fast_kernels, prepare

_SHRINK_BELOW = 0.75  # of the images that are attacked
_TRAINING_STEPS = 400  # of FGSM-RS: images fall at the pace of a robust model's

Survives = Callable[[torch.nn.Module, Tensor, Tensor, Ball, int], Tensor]


def attacks(section: Section) -> None:
    """One restart of PGD by every variant, on a ResNet-18 that FGSM-RS has trained for seconds."""
    context = _trained(section)
    images = section.scale.attack_images
    x, y = to_float(context.dataset.x_test[:images]), context.dataset.y_test[:images]
    plan = {
        f"{variant}, {layout}{', search' * search}": (_VARIANTS[variant], layout, search)
        for variant, layout, search in product(_VARIANTS, ("nchw", "channels-last"), (False, True))
        if not search or variant in ("masked", "masked, graph")  # elsewhere every size would be searched for
    }

    def measure(name: str) -> None:
        survives, layout, search = plan[name]
        memory_format = torch.channels_last if layout == "channels-last" else torch.contiguous_format
        context.model.net.to(memory_format=memory_format)
        images = x.contiguous(memory_format=memory_format)
        standing = torch.zeros(0)

        def attack() -> None:
            nonlocal standing
            with isolated_rng(0, section.device):
                standing = survives(context.model, images, y, context.ball, section.scale.attack_steps)

        with eval_mode(context.model):
            torch.backends.cudnn.benchmark = search and section.on_gpu
            first = section.elapsed(attack, 1)
            seconds = section.elapsed(attack, 1)
        section.rows.append(name, **rounded(seconds=seconds, first=first), standing=int(standing.sum()), images=len(y))

    names = [name for name in plan if section.on_gpu or "graph" not in name]
    section.each(names, measure)


def _trained(section: Section) -> RunContext:
    """A model that has been trained for seconds; on noise where there are no images."""
    if section.cifar10 or not section.on_gpu:
        spec = spec_for(section, Run("fgsm-rs", 30))
    else:
        spec = setting(section).spec("fgsm-rs", "fast bf16", section.scale.device)
    with fast_kernels(spec.training):
        context = set_up(spec, None, download=False)
        training = context.training()
        with isolated_rng(spec.seed, section.device):
            prepare(training, 1, spec.training)
        for _ in range(_TRAINING_STEPS if section.on_gpu else 5):
            training.step_through_batch()
    training.optimizer.zero_grad()
    return context


def _shrinking(model: torch.nn.Module, x: Tensor, y: Tensor, ball: Ball, steps: int) -> Tensor:
    """As fatbench's evaluation does it: images that have fallen are dropped at once."""
    return survives_pgd(model, x, y, ball, steps=steps, restarts=1)  # type: ignore[arg-type]


def _shrinking_seldom(model: torch.nn.Module, x: Tensor, y: Tensor, ball: Ball, steps: int) -> Tensor:
    """Fallen images are dropped once they are a quarter of those attacked."""
    rows, standing = torch.arange(len(y), device=y.device), is_correct(model, x, y)  # type: ignore[arg-type]
    z = ball.project(x + ball.sample(x), x)
    alive = standing
    for _ in range(steps):
        gradient, right = _gradient(model, z, y[rows])
        alive = alive & right
        if int(alive.sum()) < _SHRINK_BELOW * len(rows):
            kept = alive.nonzero().squeeze(1)
            rows, z, gradient, alive = rows[kept], z[kept], gradient[kept], alive[kept]
        z = ball.step(z, gradient, PGD_ALPHA, x[rows])
    alive = alive & is_correct(model, z, y[rows])  # type: ignore[arg-type]
    return torch.zeros_like(standing).index_fill_(0, rows[alive], True)


def _masked(model: torch.nn.Module, x: Tensor, y: Tensor, ball: Ball, steps: int) -> Tensor:
    """All images are attacked to the end: no shape changes and the host never waits."""
    standing = is_correct(model, x, y)  # type: ignore[arg-type]
    z = ball.project(x + ball.sample(x), x)
    for _ in range(steps):
        gradient, right = _gradient(model, z, y)
        standing = standing & right
        z = ball.step(z, gradient, PGD_ALPHA, x)
    return standing & is_correct(model, z, y)  # type: ignore[arg-type]


def _masked_graph(model: torch.nn.Module, x: Tensor, y: Tensor, ball: Ball, steps: int) -> Tensor:
    """The same, with a step recorded as a CUDA graph."""
    standing = is_correct(model, x, y).clone()  # type: ignore[arg-type]
    start = ball.project(x + ball.sample(x), x)
    z, kept = start.clone(), standing.clone()

    def step() -> None:
        gradient, right = _gradient(model, z, y)
        standing.logical_and_(right)
        z.copy_(ball.step(z, gradient, PGD_ALPHA, x))

    replay = record_cuda_graph(step, x.device)
    z.copy_(start)
    standing.copy_(kept)
    for _ in range(steps):
        replay()
    return standing & is_correct(model, z, y)  # type: ignore[arg-type]


def _gradient(model: torch.nn.Module, z: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    def loss(leaf: Tensor) -> tuple[Tensor, Tensor]:
        logits = model(leaf)
        return F.cross_entropy(logits, y, reduction="sum"), logits

    gradient, logits = input_gradient_with(loss, z)
    return gradient, logits.argmax(1).eq(y)


_VARIANTS: dict[str, Survives] = {
    "shrinking": _shrinking,
    "shrinking below three quarters": _shrinking_seldom,
    "masked": _masked,
    "masked, graph": _masked_graph,
}
