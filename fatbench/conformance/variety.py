"""Variety: does the method train in other precisions, layouts and sizes than the usual ones."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from fatbench.conformance.finding import Verdict, declared, failed, ok
from fatbench.conformance.learning import BATCHES, learnt
from fatbench.conformance.stage import Stage, losses
from fatbench.conformance.subject import Subject
from fatbench.errors import UsageError, one_line

_LEARNT = 0.75  # share of images; half of them are right by chance


def bf16(subject: Subject) -> Verdict:
    """In bfloat16 autocast losses and weights stay finite."""
    return _tried(subject, {"bf16": replace(subject.stage, precision="bf16")})


def channels_last(subject: Subject) -> Verdict:
    """With weights in channels-last layout: gradients then come so too, and cannot be viewed as if they were not."""
    return _tried(subject, {"channels-last": replace(subject.stage, channels=3)}, memory_format=torch.channels_last)


def odd_batches(subject: Subject) -> Verdict:
    """With batches of 5 and of 2."""
    return _tried(subject, {f"batches of {size}": replace(subject.stage, batch_size=size) for size in (5, 2)})


def two_classes(subject: Subject) -> Verdict:
    """With as few classes as there can be, and it is the right one of them that is trained; or it says what to set."""
    try:
        found = _tried(subject, {"2 classes": replace(subject.stage, classes=2)})
        right = learnt(subject.method, subject.norm) if found.status == "ok" else 1.0
    except UsageError as error:
        if "--" not in str(error):
            raise
        return declared(f"refuses: {one_line(str(error))}")
    if right < _LEARNT:
        after = f"after {BATCHES} batches of two classes that lie far apart"
        return failed(f"{after} {right:.0%} of the clean images are right: it trains another label than theirs")
    return found


def channels(subject: Subject) -> Verdict:
    """With grey images and with coloured ones."""
    return _tried(subject, {f"{count} channels": replace(subject.stage, channels=count) for count in (1, 3)})


def augmented(subject: Subject) -> Verdict:
    """With images that are cropped and mirrored, anew in each epoch."""
    return _tried(subject, {"crops and flips": replace(subject.stage, pad=1, flip=True)})


def _tried(subject: Subject, stages: dict[str, Stage], **layout: Any) -> Verdict:
    for name, stage in stages.items():
        model = stage.model().to(**layout) if layout else stage.model()
        wrong = next(_faults(subject, stage, model), "")
        if wrong:
            return failed(f"with {name} {wrong}")
    return ok(" and ".join(stages))


def _faults(subject: Subject, stage: Stage, model: nn.Module) -> Iterator[str]:
    count = 0
    for _, loss in losses(stage, subject.method, model, stage.context(), dtype=torch.float32):
        count += 1
        if loss.ndim or not bool(loss.isfinite()):
            yield f"loss number {count - 1} is {loss.flatten().tolist()[:1]}, not a finite scalar"
    for name, weight in model.named_parameters():
        if not bool(weight.isfinite().all()):
            yield f"the weights {name} are not finite after {count} steps"
    if not count:
        yield "it yields no loss"
