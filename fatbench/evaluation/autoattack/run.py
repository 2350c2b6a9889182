"""Run all of AutoAttack on a set of images, chunk by chunk; every chunk's outcome is kept."""

import time
from collections.abc import Iterator
from dataclasses import replace
from itertools import starmap
from pathlib import Path

import torch
from torch import Tensor

from fatbench.config.spec import EvalEngine
from fatbench.environment import is_out_of_memory, release_memory
from fatbench.errors import UsageError
from fatbench.evaluation.attacks import is_correct
from fatbench.evaluation.autoattack.adapter import check_model, warnings_caught
from fatbench.evaluation.autoattack.checkpoint import CLEAN, Checkpoint, load_checkpoint, save_checkpoint
from fatbench.evaluation.autoattack.plan import Job, Plan, plan_for
from fatbench.evaluation.constraints import check_images
from fatbench.evaluation.eval_result import EvalProgress, EvalResult, Watch
from fatbench.evaluation.microbatch import MicroBatch
from fatbench.models.classifier import Classifier
from fatbench.record.samples import STANDING
from fatbench.threat import Ball

_SQUARE_MARGIN = 0.002  # of the images, as in the library


@torch.no_grad()
def run_autoattack(
    model: Classifier,
    x: Tensor,
    y: Tensor,
    ball: Ball,
    *,
    num_classes: int,
    seed: int,
    batch_size: int,
    watch: Watch,
    engine: EvalEngine = "exact",
    state: Path | None = None,
    microbatch: MicroBatch | None = None,
) -> EvalResult:
    """Return what became of the images x (B, C, H, W) in [0, 1] with labels y (B,).

    Args:
        model: in eval mode and float32, its parameters frozen; it stays as it is.
        batch_size: images at a time; the fast engine may take more.
        engine: "exact" gives the library's own verdicts; "fast" attacks a surrogate, and the model confirms what falls.
        state: the file that keeps what is known after every chunk; if it is there already, the evaluation resumes, or
            is known to its end. Whoever named the file deletes it.
        microbatch: how many images of a batch fit into memory at once; out of memory, it shrinks, and verdicts
            stay what they were.

    Raises:
        InvalidRunError: images or attack leave what the threat model allows.
        ResourceError: the state cannot be written.
        torch.OutOfMemoryError, RuntimeError, MemoryError: memory does not suffice for a single image.
    """
    started = time.perf_counter()
    check_images(x)
    microbatch = microbatch or MicroBatch(batch_size, x.device)
    job = Job(model, x.contiguous(), y, ball, num_classes, seed, batch_size, microbatch)
    plan = plan_for(job, engine)
    mark = job.fingerprint(plan.facts) if state else ""
    checkpoint, known = _resumed(job, state, mark)
    with warnings_caught(known) as warnings:
        checkpoint = checkpoint or _first_checkpoint(job, plan)
        warnings.extend(text for text in plan.warnings if text not in warnings)
        checkpoint.warnings, before = warnings, checkpoint.seconds
        for _ in _attacked(job, plan, checkpoint, watch):
            checkpoint.seconds = before + time.perf_counter() - started
            if state:
                save_checkpoint(checkpoint, mark, state)
    checkpoint.seconds = before + time.perf_counter() - started
    return _eval_result(job, plan, checkpoint)


def _resumed(job: Job, state: Path | None, mark: str) -> tuple[Checkpoint | None, list[str]]:
    """What an earlier process found, if it was about the same job; and the warnings so far."""
    try:
        checkpoint = load_checkpoint(state, mark, len(job.x), len(job.attacks)) if state else None
    except UsageError as error:
        return None, [f"the evaluation restarted: {error}"]
    return checkpoint, checkpoint.warnings if checkpoint else []


def _first_checkpoint(job: Job, plan: Plan) -> Checkpoint:
    """The checkpoint before the first attack, after the library's own checks of the model."""
    chunks = [job.chunk(first) for first in range(0, len(job.x), job.batch_size)]
    job.microbatch.run(len(chunks[0][0]), lambda _: check_model(job.microbatched, *chunks[0]))
    clean = starmap(lambda x, y: job.microbatch.run(len(x), lambda _: is_correct(job.microbatched, x, y)), chunks)
    broken_by = torch.where(torch.cat(list(clean)), STANDING, CLEAN).to("cpu", torch.int8)
    return Checkpoint(broken_by, [0.0] * len(job.attacks), plan.batch_size)


def _attacked(job: Job, plan: Plan, checkpoint: Checkpoint, watch: Watch) -> Iterator[None]:
    """Let every attack at the images that still stand; yield after every chunk."""
    for name in job.attacks[checkpoint.attack :]:
        alive = checkpoint.alive
        while checkpoint.position < len(alive):
            watch(_eval_progress(job, checkpoint, name, len(alive)))
            chunk = alive[checkpoint.position : checkpoint.position + checkpoint.batch_size]
            started = time.perf_counter()
            fallen = _fallen(job, plan, checkpoint, name, chunk.to(job.x.device))
            if fallen is None:
                continue
            checkpoint.settle(chunk, fallen, time.perf_counter() - started)
            yield
        checkpoint.attack, checkpoint.position = checkpoint.attack + 1, 0


def _fallen(job: Job, plan: Plan, checkpoint: Checkpoint, name: str, rows: Tensor) -> Tensor | None:
    """(B,) which of the images in `rows`, (B,), the attack breaks; None where they were too many: half come next."""
    x, y = job.x[rows], job.y[rows]
    if checkpoint.batch_size <= job.batch_size:
        return job.microbatch.run(len(rows), lambda _: plan.attacker.breaks(name, x, y).cpu())
    try:
        return plan.attacker.breaks(name, x, y).cpu()
    except Exception as error:
        if not is_out_of_memory(error):
            raise
    checkpoint.batch_size //= 2  # out here, since the exception holds on to what filled the memory
    release_memory(job.x.device)
    return None


def _eval_progress(job: Job, checkpoint: Checkpoint, name: str, alive: int) -> EvalProgress:
    """Progress before the next chunk; the time left is known once a chunk of this attack is done."""
    last = checkpoint.attack == len(job.attacks) - 1
    waiting = alive - checkpoint.position if last else int((checkpoint.broken_by == STANDING).sum())
    number, chunks = (-(-images // checkpoint.batch_size) for images in (checkpoint.position, alive))
    spent = checkpoint.part_seconds[checkpoint.attack]
    left = spent / checkpoint.position * (alive - checkpoint.position) if checkpoint.position else None
    return EvalProgress(len(job.x) - waiting, len(job.x), f"{name}, chunk {number + 1} of {chunks}", left)


def _eval_result(job: Job, plan: Plan, checkpoint: Checkpoint) -> EvalResult:
    facts = plan.facts | ({"batch_size": checkpoint.batch_size} if "engine" in plan.facts else {})
    eval_result = EvalResult(
        parts=("clean", *job.attacks),
        broken_by=checkpoint.broken_by,
        attack=facts,
        seconds=checkpoint.seconds,
        part_seconds=dict(zip(job.attacks, checkpoint.part_seconds, strict=True)),
        warnings=checkpoint.warnings,
    )
    alarm = _square_beats_the_others(eval_result.score.survivors, len(job.x))
    return replace(eval_result, warnings=[*checkpoint.warnings, *alarm])


def _square_beats_the_others(survivors: dict[str, int], images: int) -> list[str]:
    """The library's own alarm, which it cannot raise when attacks run one at a time: a sign of masked gradients."""
    before, after = list(survivors.values())[-2:]
    if before - after <= _SQUARE_MARGIN * images:
        return []
    return [f"Square broke {before - after} of {images} images that the gradient attacks left: masked gradients?"]
