"""What is attacked, and by whom."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from fatbench.evaluation.autoattack.attackers import Attacker, Exact, Fast
from fatbench.evaluation.autoattack.course import fingerprint
from fatbench.evaluation.autoattack.library import VERSION, Library
from fatbench.evaluation.autoattack.parts import parts_for
from fatbench.evaluation.autoattack.room import roomy_batch
from fatbench.evaluation.autoattack.trial import trusted_stand_in
from fatbench.evaluation.portion import Logits, Portion, Portioned
from fatbench.models.classifier import Classifier
from fatbench.record import Fact
from fatbench.spec import EvalEngine
from fatbench.threat import Ball


@dataclass(frozen=True)
class Job:
    """A model, the images that it is to be evaluated on, and what AutoAttack may do to them."""

    model: Classifier
    x: Tensor  # (N, C, H, W) in [0, 1], contiguous
    y: Tensor  # (N,) int64
    ball: Ball
    num_classes: int
    seed: int
    batch_size: int
    portion: Portion  # of a batch that goes through the model at once

    @property
    def portioned(self) -> Logits:
        """The model, on no more images at once than memory holds."""
        return Portioned(self.model, self.portion)

    @property
    def attacks(self) -> tuple[str, ...]:
        """In the order in which they run."""
        return parts_for(self.num_classes)[0]

    def chunk(self, first: int) -> tuple[Tensor, Tensor]:
        """Images and labels of one batch, from the image `first` on."""
        until = first + self.batch_size
        return self.x[first:until], self.y[first:until]

    def library_on(self, model: Logits) -> Library:
        """The attacks on `model`, be it the job's or one in its place."""
        return Library(model, self.ball, self.num_classes, self.seed, self.x.device)

    def fingerprint(self, facts: Mapping[str, Fact]) -> str:
        """A hash of all that decides what the evaluation finds."""
        allowed = {"norm": type(self.ball).__name__, "eps": self.ball.eps, "seed": self.seed}
        code = {"torch": torch.__version__, "device": str(self.x.device), "network": repr(self.model)}  # beside weights
        images, _ = self.chunk(0)
        predicted = self.portion.judge(len(images), lambda _: self.portioned(images)).argmax(1).tolist()
        setting = {**facts, **allowed, **code, "batch_size": self.batch_size, "attacks": self.attacks}
        setting["predicted"] = predicted
        return fingerprint(self.model, self.x, self.y, setting)


class Plan(NamedTuple):
    """How a job is done."""

    attacker: Attacker
    batch_size: int  # images at a time to begin with
    facts: dict[str, Fact]  # for the record
    warnings: tuple[str, ...] = ()


def plan_for(job: Job, engine: EvalEngine) -> Plan:
    """Return who is to attack: "exact" the library as it is; "fast" one on a stand-in of the model, if one is found."""
    version = parts_for(job.num_classes)[1]
    facts: dict[str, Fact] = {"version": version, "implementation": VERSION}
    exact = Exact(job.portioned, job.library_on(job.portioned), job.ball)
    if engine == "exact":
        return Plan(exact, job.batch_size, facts)
    images, _ = job.chunk(0)
    stand_in, why_not = job.portion.judge(len(images), lambda size: trusted_stand_in(job.model, images[:size]))
    batch_size = roomy_batch(stand_in or job.model, images[: job.portion.size], len(job.x), job.batch_size)
    facts |= {"version": f"{version}, fast", "engine": "fast", "arithmetic": str(stand_in.way) if stand_in else "fp32"}
    if stand_in is None:
        return Plan(exact, batch_size, facts, (f"the fast engine attacked the network itself: {why_not}",))
    faster = Portioned(stand_in, job.portion)
    return Plan(Fast(exact, faster, stand_in.arithmetic, job.library_on(faster), job.batch_size), batch_size, facts)
