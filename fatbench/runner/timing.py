"""How long an optimiser step takes, method beside method.

Machines drift: clocks change, other programs come and go. So every method is timed in several short runs, the methods
take turns, and two of them are compared turn by turn: what disturbed the one turn disturbed both.
"""

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from math import ceil, comb
from pathlib import Path
from statistics import median

import torch

from fatbench.config.spec import EnginePart, RunSpec
from fatbench.evaluation.eval_mode import isolated_rng
from fatbench.runner.memory import training_memory_explained
from fatbench.runner.requirements import check_requirable, check_required
from fatbench.runner.setup import set_up
from fatbench.runner.threads import sensible_threads, threads
from fatbench.runner.user_errors import user_errors_named
from fatbench.training.clock import synchronize
from fatbench.training.loop import Training
from fatbench.training.passes import count_passes
from fatbench.training.preparation import fast_kernels, prepare

SHORTEST_RUN = 0.3  # seconds; shorter ones measure the clock and the scheduler
CONFIDENCE = 0.95
_WARM_BATCHES, _WARM_SECONDS = 3, 1.0  # kernels are chosen and memory is found in the first batches


@dataclass(frozen=True)
class Estimate:
    """A median, and an interval that holds the true one with probability `confidence`."""

    median: float
    low: float
    high: float
    confidence: float


@dataclass(frozen=True)
class StepTime:
    """What one optimiser step of a method costs here."""

    spec: RunSpec
    passes: dict[str, float]  # "forward", "input_backward", "weight_backward": passes of a batch
    threads: int  # of the CPU
    batches: int  # in every run
    seconds: tuple[float, ...]  # per step, run by run

    @property
    def estimate(self) -> Estimate:
        """Seconds per step."""
        return estimate(self.seconds)

    @property
    def images_per_second(self) -> float:
        """Images trained on per second; a replayed one counts in every step."""
        return self.spec.training.batch_size / self.estimate.median

    def ratio_to(self, other: "StepTime") -> Estimate:
        """How many times as long as `other`'s a step takes, from the runs side by side: for those that took turns."""
        return estimate([mine / theirs for mine, theirs in zip(self.seconds, other.seconds, strict=True)])


@dataclass(frozen=True)
class Contender:
    """A training that is set up to be timed."""

    spec: RunSpec
    device: torch.device
    training: Training
    threads: int  # of the CPU, as a run would have
    passes: dict[str, float]  # per step, as in StepTime
    updates: int  # optimiser steps that a batch is worth

    def elapsed(self, batches: int, now: Callable[[], float] = time.perf_counter) -> float:
        """Train on so many batches, wait for the device, and return how far the clock `now` went."""
        explained = user_errors_named(self.spec), training_memory_explained(self.spec)
        with threads(self.threads), fast_kernels(self.spec.training), explained[0], explained[1]:
            synchronize(self.device)
            started = now()
            for _ in range(batches):
                self.training.step_through_batch()
            synchronize(self.device)
            return now() - started

    def warm_up(self) -> float:
        """Train on a few batches, and return how many seconds the last one took.

        One batch at least: `contend` has done one already. Compiled code may have to be compiled again in it.
        """
        spent = [self.elapsed(1) for _ in range(2 if self.spec.training.compile else 1)]
        while len(spent) < _WARM_BATCHES and sum(spent) < _WARM_SECONDS:
            spent.append(self.elapsed(1))
        return spent[-1]


def estimate(values: Sequence[float]) -> Estimate:
    """Return the median of one or more values, with its interval by order statistics.

    The k-th smallest and k-th largest of n enclose the true median unless fewer than k values fell on one side of it,
    which is binomial, whatever the distribution (David & Nagaraja, Order Statistics, 2003, 7.1). Taken is the largest k
    that reaches 95%; below six values none does, and the extremes have less: `confidence` says how much.
    """
    ordered, n = sorted(values), len(values)
    k, outside = 1, 2 / 2**n
    while k + 1 <= n // 2 and outside + 2 * comb(n, k) / 2**n <= 1 - CONFIDENCE:
        outside += 2 * comb(n, k) / 2**n
        k += 1
    return Estimate(median(ordered), ordered[k - 1], ordered[n - k], 1 - outside)


def contend(
    spec: RunSpec, *, data_dir: Path | None = None, download: bool = False, require: Sequence[EnginePart] = ()
) -> Contender:
    """Return the training of `spec`, its passes counted and its engine prepared, but cold.

    Its budget should be too long to end.

    Raises:
        FatbenchError: it cannot be set up, its method breaks the contract, or a part of the engine in `require` is not
            in force.
    """
    check_requirable(spec, require)
    with threads(spec.threads), user_errors_named(spec), training_memory_explained(spec):
        context = set_up(spec, data_dir, download)
        number = spec.threads or sensible_threads(context) or torch.get_num_threads()
        with threads(number), fast_kernels(spec.training), isolated_rng(spec.seed, context.device):
            cost = count_passes(context.model, context.method, context.loader.batch(0), context.method_context())
            training = context.training()  # measures the first convolution, by the kernels that a run would have
            check_required(prepare(training, cost.updates, spec.training), require)
    images = spec.training.batch_size * cost.updates
    passes = {name: samples / images for name, samples in cost.passes.model_dump().items()}
    return Contender(spec, context.device, training, number, passes, cost.updates)


def time_methods(
    specs: Sequence[RunSpec],
    *,
    data_dir: Path | None = None,
    download: bool = False,
    runs: int = 5,
    batches: int | None = None,
    interleave: bool = True,
    require: Sequence[EnginePart] = (),
    watch: Callable[[str], None] = lambda _: None,
) -> list[StepTime]:
    """Return how long an optimiser step of every spec takes, in their order. Nothing is recorded or evaluated.

    Args:
        specs: one per method; their budgets should be too long to end.
        batches: of every run; None is as many as take SHORTEST_RUN seconds.
        interleave: let the methods take turns; otherwise each has all its runs at once.

    Raises:
        FatbenchError: a spec cannot be set up or run.
    """
    contenders = []
    for spec in specs:
        watch(f"setting {spec.method} up")
        contenders.append(contend(spec, data_dir=data_dir, download=download, require=require))
    watch("warming up")  # all before any is timed: preparing one may drop compiled code of another
    batch_seconds = [one.warm_up() for one in contenders]
    lengths = [batches or ceil(SHORTEST_RUN / one) for one in batch_seconds]
    seconds: list[list[float]] = [[] for _ in contenders]
    for done, index in enumerate(_turns(len(contenders), runs, interleave)):
        one, length = contenders[index], lengths[index]
        watch(f"run {done + 1} of {runs * len(contenders)}: {one.spec.method}")
        seconds[index].append(one.elapsed(length) / (length * one.updates))
    return [
        StepTime(one.spec, one.passes, one.threads, length, tuple(times))
        for one, length, times in zip(contenders, lengths, seconds, strict=True)
    ]


def _turns(contenders: int, runs: int, interleave: bool) -> Iterable[int]:
    """Yield who runs next; who was first in one round is last in the next, so that being first gains nothing."""
    if not interleave:
        return (index for index in range(contenders) for _ in range(runs))
    return (index for turn in range(runs) for index in range(contenders)[:: 1 if turn % 2 == 0 else -1])
