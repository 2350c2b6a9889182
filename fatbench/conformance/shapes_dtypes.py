"""Shapes and dtypes: the method trains in other precisions, layouts and sizes too."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from fatbench.conformance.case import Case
from fatbench.conformance.learning import BATCHES, learnt
from fatbench.conformance.report import Verdict, declared, failed, ok
from fatbench.conformance.toy_problem import ToyProblem, losses
from fatbench.errors import UsageError, one_line

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
