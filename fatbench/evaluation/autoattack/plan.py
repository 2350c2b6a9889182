"""What is attacked, and by whom."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from fatbench.config.spec import EvalEngine
from fatbench.evaluation.autoattack.adapter import VERSION, Adapter, parts_for
from fatbench.evaluation.autoattack.attackers import Attacker, Exact, Fast
from fatbench.evaluation.autoattack.checkpoint import fingerprint
from fatbench.evaluation.autoattack.surrogate import trusted_surrogate
from fatbench.evaluation.microbatch import Logits, MicroBatch, MicroBatched
from fatbench.models.classifier import Classifier
from fatbench.record.parts import Fact
from fatbench.threat import Ball

_MOST = 2048  # images; a GPU is no faster beyond
_SHARE = 0.5  # of free memory that a chunk's activations may take
_BACKWARD = 2  # times the activations: gradients flow beside them


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
    microbatch: MicroBatch  # of a batch that goes through the model at once

    @property
    def microbatched(self) -> Logits:
        """The model, on no more images at once than memory holds."""
        return MicroBatched(self.model, self.microbatch)

    @property
    def attacks(self) -> tuple[str, ...]:
        """In the order in which they run."""
        return parts_for(self.num_classes)[0]

    def chunk(self, first: int) -> tuple[Tensor, Tensor]:
        """Images and labels of one batch, from the image `first` on."""
        until = first + self.batch_size
        return self.x[first:until], self.y[first:until]

    def adapter_on(self, model: Logits) -> Adapter:
        """The attacks on `model`, be it the job's or one in its place."""
        return Adapter(model, self.ball, self.num_classes, self.seed, self.x.device)

    def fingerprint(self, facts: Mapping[str, Fact]) -> str:
        """A hash of all that decides what the evaluation finds."""
        allowed = {"norm": type(self.ball).__name__, "eps": self.ball.eps, "seed": self.seed}
        code = {"torch": torch.__version__, "device": str(self.x.device), "network": repr(self.model)}  # beside weights
        images, _ = self.chunk(0)
        predicted = self.microbatch.run(len(images), lambda _: self.microbatched(images)).argmax(1).tolist()
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
    """Return who attacks: "exact", the library as it is; "fast", one on a surrogate of the model, if one is found."""
    version = parts_for(job.num_classes)[1]
    facts: dict[str, Fact] = {"version": version, "implementation": VERSION}
    exact = Exact(job.microbatched, job.adapter_on(job.microbatched), job.ball)
    if engine == "exact":
        return Plan(exact, job.batch_size, facts)
    images, _ = job.chunk(0)
    surrogate, why_not = job.microbatch.run(len(images), lambda size: trusted_surrogate(job.model, images[:size]))
    batch_size = enlarged_batch_size(surrogate or job.model, images[: job.microbatch.size], len(job.x), job.batch_size)
    facts |= {
        "version": f"{version}, fast",
        "engine": "fast",
        "arithmetic": str(surrogate.kind) if surrogate else "fp32",
    }
    if surrogate is None:
        return Plan(exact, batch_size, facts, (f"the fast engine attacked the network itself: {why_not}",))
    faster = MicroBatched(surrogate, job.microbatch)
    return Plan(Fast(exact, faster, surrogate.arithmetic, job.adapter_on(faster), job.batch_size), batch_size, facts)


def enlarged_batch_size(model: nn.Module, x: Tensor, images: int, batch_size: int) -> int:
    """Return the batch size for attacking so many images: on a GPU as large as pays and its free memory allows.

    Args:
        x: (B, C, H, W), a chunk of `batch_size` images or fewer.
        batch_size: asked for; what comes back is it, doubled as often as may be.
    """
    if x.device.type != "cuda":
        return batch_size  # a CPU is as fast on few images as on many
    before = torch.cuda.memory_allocated(x.device)
    with torch.enable_grad():
        logits = model(x.detach().requires_grad_())
        each = (torch.cuda.memory_allocated(x.device) - before) / len(x)
    del logits
    free, _ = torch.cuda.mem_get_info(x.device)
    cached = torch.cuda.memory_reserved(x.device) - torch.cuda.memory_allocated(x.device)
    return largest_batch(batch_size, images, _BACKWARD * each, free + cached)


def largest_batch(batch_size: int, images: int, bytes_each: float, bytes_free: int) -> int:
    """Return `batch_size`, doubled until it holds all images, is large enough, or would need too much memory."""
    size = batch_size
    while size < images and 2 * size <= _MOST and 2 * size * bytes_each <= _SHARE * bytes_free:
        size *= 2
    return size
