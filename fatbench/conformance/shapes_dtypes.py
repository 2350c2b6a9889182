"""Shapes and dtypes: the method trains in other precisions, layouts and sizes too."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from fatbench.conformance.report import Verdict, declared, failed, ok
from fatbench.conformance.toy_problem import EPS, Case, ToyProblem, losses
from fatbench.data.loader import Loader, to_float
from fatbench.errors import UsageError, one_line
from fatbench.interface import Batch, Context
from fatbench.methods import Method
from fatbench.models.classifier import Classifier
from fatbench.threat import make_ball

BATCHES = 30
_RATE = 0.01  # small, and without momentum: where weights swing, the last step decides what they say
_COUNT, _SIDE, _BATCH_SIZE = 64, 8, 16
_LEARNT = 0.75  # share of images; half of them are right by chance


def bf16(case: Case) -> Verdict:
    """In bfloat16 autocast losses and weights stay finite."""
    return _tried(case, {"bf16": replace(case.problem, precision="bf16")})


def channels_last(case: Case) -> Verdict:
    """With weights in channels-last layout: gradients then come so too, and cannot be viewed as if they were not."""
    return _tried(case, {"channels-last": replace(case.problem, channels=3)}, memory_format=torch.channels_last)


def odd_batches(case: Case) -> Verdict:
    """With batches of 5 and of 2."""
    return _tried(case, {f"batches of {size}": replace(case.problem, batch_size=size) for size in (5, 2)})


def two_classes(case: Case) -> Verdict:
    """With as few classes as there can be, and it is the right one of them that is trained; or it says what to set."""
    try:
        found = _tried(case, {"2 classes": replace(case.problem, classes=2)})
        right = learnt(case.method, case.norm) if found.status == "ok" else 1.0
    except UsageError as error:
        if "--" not in str(error):
            raise
        return declared(f"refuses: {one_line(str(error))}")
    if right < _LEARNT:
        after = f"after {BATCHES} batches of two classes that lie far apart"
        return failed(f"{after} {right:.0%} of the clean images are right: it trains another label than theirs")
    return found


def channels(case: Case) -> Verdict:
    """With grey images and with coloured ones."""
    return _tried(case, {f"{count} channels": replace(case.problem, channels=count) for count in (1, 3)})


def augmented(case: Case) -> Verdict:
    """With images that are cropped and mirrored differently in each epoch."""
    return _tried(case, {"crops and flips": replace(case.problem, pad=1, flip=True)})


def _tried(case: Case, stages: dict[str, ToyProblem], **layout: Any) -> Verdict:
    for name, problem in stages.items():
        model = problem.model().to(**layout) if layout else problem.model()
        wrong = next(_faults(case, problem, model), "")
        if wrong:
            return failed(f"with {name} {wrong}")
    return ok(" and ".join(stages))


def _faults(case: Case, problem: ToyProblem, model: nn.Module) -> Iterator[str]:
    count = 0
    for _, loss in losses(problem, case.method, model, problem.context(), dtype=torch.float32):
        count += 1
        if loss.ndim or not bool(loss.isfinite()):
            yield f"loss number {count - 1} is {loss.flatten().tolist()[:1]}, not a finite scalar"
    for name, weight in model.named_parameters():
        if not bool(weight.isfinite().all()):
            yield f"the weights {name} are not finite after {count} steps"
    if not count:
        yield "it yields no loss"


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
