"""A training whose engine is warmed up, ready to be timed."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.gpu.section import Section, rounded
from benchmarks.lanes import Setting, cifar_shaped, digits
from fatbench.config.spec import RunSpec
from fatbench.environment import PeakMemory
from fatbench.evaluation.eval_mode import isolated_rng
from fatbench.metering.flops import counted_flops
from fatbench.record.parts import EngineInfo
from fatbench.runner.setup import RunContext, set_up
from fatbench.training.loop import Training
from fatbench.training.passes import count_passes
from fatbench.training.preparation import fast_kernels, prepare


@dataclass(frozen=True)
class Prepared:
    """A training with its engine in force; a Lane."""

    spec: RunSpec
    context: RunContext
    training: Training
    updates: int  # optimiser steps per batch
    flops: float  # of the model, per optimiser step
    engine: EngineInfo
    peak: PeakMemory
    section: Section

    def elapsed(self, batches: int) -> float:
        """Train on so many batches and return the seconds that they took."""
        with fast_kernels(self.spec.training):
            return self.section.elapsed(self.training.step_through_batch, batches)

    def timed(self) -> dict[str, Any]:
        """Time an optimiser step: what a row says of it."""
        batch_ms, spread = self.section.milliseconds(self.elapsed)
        ms = batch_ms / self.updates
        return rounded(
            ms_per_update=ms,
            spread=spread,
            images_per_second=1e3 * self.spec.training.batch_size / ms,
            tflop_per_update=self.flops / 1e12,
            tflop_per_second=self.flops / ms / 1e9,
            peak_bytes=self.peak.found.get("allocated"),
            capture_seconds=self.engine.capture_seconds,
            compile_seconds=self.engine.compile_seconds,
            graph=self.engine.in_force.get("graph", False),
            stem=self.engine.in_force.get("pad-stem", False),
            notes="; ".join(f"{part}: {why}" for part, why in self.engine.notes.items()),
        )


def setting(section: Section) -> Setting:
    """ResNet-18 on noise of CIFAR-10's shape; in a rehearsal the small model on digits."""
    return cifar_shaped(Path(), section.scale.batch_size) if section.on_gpu else digits()


def spec_of(section: Section, method: str, **changes: Any) -> RunSpec:
    """The run of `method` whose batches are timed, in bf16 on the fast engine."""
    return setting(section).spec(method, "fast bf16", section.scale.device).model_copy(update=changes)


def prepared(section: Section, spec: RunSpec) -> Prepared:
    """Return the training of `spec`, warmed up, to be timed for `section`."""
    with fast_kernels(spec.training):  # from the first convolution on: cuDNN keeps what it chose first
        context = set_up(spec, None, download=False)
        training, peak = context.training(), PeakMemory(context.device)
        with isolated_rng(spec.seed, context.device):
            with counted_flops() as flops:
                cost = count_passes(context.model, context.method, context.loader.batch(0), context.method_context())
            engine = prepare(training, cost.updates, spec.training, peak)
    return Prepared(spec, context, training, cost.updates, flops.total / cost.updates, engine, peak, section)
