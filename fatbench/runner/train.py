"""Train to the end of the budget, probe the model every epoch, and save the weights."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from fatbench.cancellation import Interrupted
from fatbench.config.spec import EnginePart
from fatbench.environment import PeakMemory, reset_peak_memory
from fatbench.errors import ResourceError, UsageError
from fatbench.evaluation.eval_mode import isolated_rng
from fatbench.interface import Context
from fatbench.metering.flops import counted_flops
from fatbench.record.parts import Event, Probe, Score
from fatbench.record.paths import LAST_WEIGHTS, WEIGHTS
from fatbench.runner.checkpoint import Checkpoint
from fatbench.runner.checkpointing import Checkpointer, CheckpointSource
from fatbench.runner.cost import CostMeter
from fatbench.runner.early_stopping import EarlyStopping, OverfittingDetector
from fatbench.runner.memory import evaluation_memory_explained, named_peaks
from fatbench.runner.model_selection import ModelSelector, StateDict, weights_of
from fatbench.runner.observer import Observer
from fatbench.runner.record_writer import RecordWriter
from fatbench.runner.requirements import check_required
from fatbench.runner.setup import RunContext
from fatbench.training.loop import StoppedBy, StopReason, Training, TrainStatus
from fatbench.training.passes import count_passes
from fatbench.training.preparation import fast_kernels, prepare
from fatbench.training.state import restore
from fatbench.training.weights_file import save_weights

_TRIFLE = 0.02  # of a budget of time


def train_model(
    context: RunContext,
    writer: RecordWriter,
    observer: Observer,
    checkpointer: Checkpointer,
    checkpoints: Iterable[Checkpoint] = (),
    require: Sequence[EnginePart] = (),
) -> None:
    """Train, and save the weights that are to be scored; `writer.record.budget.stopped_by` says how it ended.

    A cancellation while these are saved is heeded once they are.

    Args:
        checkpoints: it resumes from the first that fits; without one, it starts at the beginning.

    Raises:
        FatbenchError: it cannot be trained, or not as required.
        Interrupted: it was cancelled.
    """
    training, callbacks = _prepared(context, writer, observer)
    try:
        check_required(writer.record.engine, require)
    except ResourceError:
        for checkpoint in checkpoints:  # what was trained before is not lost for that
            writer.resume_from(checkpoint)
            break
        raise
    for checkpoint in checkpoints:
        if _resume_training(training, callbacks, checkpoint, observer):
            checkpointer.resumed_from(checkpoint)
            writer.resume_from(checkpoint)
            break
    observer.stage("training")
    with checkpointer.cancel.polling():
        with checkpointer.following(
            CheckpointSource(context, training, callbacks.model_selector, callbacks.cost_meter)
        ):
            stopped_by = _train(context, training, callbacks, writer, observer, checkpointer)
        _conclude(context, training, writer, callbacks.model_selector, stopped_by)
    if checkpointer.cancel.requested and stopped_by != "diverged":  # which is a result already
        raise Interrupted


@dataclass(frozen=True)
class Callbacks:
    """What observes a training while it runs."""

    cost_meter: CostMeter
    early_stopping: EarlyStopping
    overfitting_detector: OverfittingDetector
    model_selector: ModelSelector
    peak: PeakMemory

    def check(self, checkpoint: Checkpoint) -> None:
        """Check what `resume_from` relies on: checkpoints are untrusted input.

        Raises:
            UsageError: it is of another training.
        """
        history = checkpoint.facts.record.history
        if any(not set(self.early_stopping.probes) <= probe.scores.keys() for probe in history):
            raise UsageError("it was not looked at as this one is")
        if not checkpoint.facts.cost.possible:
            raise UsageError("no training takes its steps so")
        if checkpoint.kept:
            self.model_selector.check(checkpoint.kept)

    def resume_from(self, checkpoint: Checkpoint) -> None:
        """Restore what those of an earlier process knew."""
        history = checkpoint.facts.record.history
        for probe in history:
            self.overfitting_detector.update(probe)
        kept = next(((probe, checkpoint.kept) for probe in history if probe.step == checkpoint.facts.kept_step), None)
        self.model_selector.resume_from(
            history[-1] if history else None, kept, overfitted=self.overfitting_detector.overfitted
        )
        self.cost_meter.resume_from(checkpoint.facts.cost)


def _prepared(context: RunContext, writer: RecordWriter, observer: Observer) -> tuple[Training, Callbacks]:
    """Return the training, warmed up and not started, and its callbacks."""
    reset_peak_memory(context.device)
    observer.stage("warming up")
    ctx = context.method_context()
    cost_meter = _warm_up(context, ctx)
    writer.note(memory={**writer.record.memory, **_per_image_memory(ctx, context.device, observer)})
    del ctx  # the training's own takes the same room
    with (
        context.clock.phase("warmup"),
        isolated_rng(context.spec.seed, context.device),
        fast_kernels(context.spec.training),
    ):
        training, peak = context.training(), PeakMemory(context.device)
        writer.note(engine=prepare(training, cost_meter.cost.updates, context.spec.training, peak))
    return training, Callbacks(
        cost_meter, EarlyStopping(context.spec), OverfittingDetector(), ModelSelector(context.model, context.spec), peak
    )


def _conclude(
    context: RunContext, training: Training, writer: RecordWriter, model_selector: ModelSelector, stopped_by: StoppedBy
) -> None:
    """Say how the training ended, and save the weights that are to be scored."""
    if stopped_by == "diverged":
        writer.note(events=[*writer.record.events, _divergence(training.status())])
    else:
        if training.average is not None:
            with context.clock.phase("train"):  # a model is not trained before it has its statistics
                training.average.swap_in(training.loader)
        if stopped_by == "time":
            writer.note(events=[*writer.record.events, *_missed_budget(context, training, writer.record.history[-1])])
        _keep_weights(context, writer, model_selector)
    # Last: whoever finds a record that says how training ended may rely on the weights beside it.
    writer.note(budget=writer.record.budget.model_copy(update={"stopped_by": stopped_by}))


def _resume_training(training: Training, callbacks: Callbacks, checkpoint: Checkpoint, observer: Observer) -> bool:
    """Put the training into the state, if it is one of such a training, and say which it is."""
    try:
        callbacks.check(checkpoint)
        restore(training, checkpoint.training)
    except UsageError as error:
        observer.warning(f"cannot resume from step {checkpoint.steps}: {error}")
        return False
    callbacks.resume_from(checkpoint)
    observer.warning(f"resumes at step {checkpoint.steps}, after {checkpoint.train_seconds:.1f} s of training")
    return True


def _train(
    context: RunContext,
    training: Training,
    callbacks: Callbacks,
    writer: RecordWriter,
    observer: Observer,
    checkpointer: Checkpointer,
) -> StoppedBy:
    """Run the training, and settle its account however it ends."""
    cost_meter, peak = callbacks.cost_meter, callbacks.peak

    def watch(status: TrainStatus) -> None:
        cost_meter.watch(status)
        observer.training(status, status.steps * context.spec.training.batch_size / max(status.train_seconds, 1e-9))

    def end_epoch(status: TrainStatus) -> StopReason | None:
        oom_explained = evaluation_memory_explained(context.spec)
        with cost_meter.energy.paused(), peak.paused(), oom_explained, training.scored_weights():
            probe = _probe(context, status, callbacks.early_stopping.probes)
            overfitted = callbacks.overfitting_detector.update(probe)
            callbacks.model_selector.update(probe, overfitted=overfitted)
        observer.probed(probe)
        writer.note_often(history=[*writer.record.history, probe], **cost_meter.effort(training))
        if overfitted and context.spec.training.on_overfitting != "continue":
            return "overfitting"
        return "target" if callbacks.early_stopping.reached(probe) else None

    try:
        with fast_kernels(context.spec.training), cost_meter.energy.on():
            return training.run(watch, end_epoch, checkpointer.after_batch)
    finally:  # an interrupted or failed run has its account settled too
        events = [*writer.record.events, *cost_meter.events(), *callbacks.overfitting_detector.events]
        memory = {**writer.record.memory, **named_peaks(peak.found, "training")}
        writer.note(**cost_meter.totals(training), events=events, target=callbacks.early_stopping.info, memory=memory)


def _keep_weights(context: RunContext, writer: RecordWriter, model_selector: ModelSelector) -> None:
    """Save the weights that are to be scored, and the last ones beside them where these are others."""
    chosen = model_selector.choose()
    with context.clock.phase("checkpoint"):
        if chosen is not None:
            _save(context, writer, "last-weights", LAST_WEIGHTS, weights_of(context.model))
            context.model.load_state_dict(chosen[1])
        _save(context, writer, "weights", WEIGHTS, weights_of(context.model))
    writer.note(selection=chosen[0] if chosen is not None else model_selector.last())


def _save(context: RunContext, writer: RecordWriter, name: str, file: str, weights: StateDict) -> None:
    sha256 = save_weights(weights, writer.artefact(file), {"id": context.spec.id, "model": context.spec.model})
    writer.keep(name, writer.artefact(file), sha256)


def _per_image_memory(ctx: Context, device: torch.device, observer: Observer) -> dict[str, int]:
    """Say how much the method remembers of single images, and return it for the record: nothing, for most."""
    tensors = [buffer for buffer in ctx.buffers.values() if isinstance(buffer, Tensor)]  # an own method may do worse
    memory = [buffer for buffer in tensors if buffer.shape[:1] == (ctx.num_train,)]
    size = sum(buffer.nbytes for buffer in memory)
    if size:
        kinds = ", ".join(sorted({str(buffer.dtype).removeprefix("torch.") for buffer in memory}))
        each = f"{size / ctx.num_train / 2**10:,.1f} KiB of each of {ctx.num_train:,} training images"
        observer.warning(f"stores {each}: {size / 2**20:,.1f} MiB on {device.type} ({kinds})")
    return {"remembered_images": size} if size else {}


def _warm_up(context: RunContext, ctx: Context) -> CostMeter:
    """Run one batch without stepping, which pays for lazy initialisation and counts its cost; leave no trace.

    The cost is the model's own: an engine that computes the same with more or fewer operations is not credited.
    """
    kernels, randomness = fast_kernels(context.spec.training), isolated_rng(context.spec.seed, context.device)
    with context.clock.phase("warmup"), kernels, randomness, counted_flops() as flops:
        cost = count_passes(context.model, context.method, context.loader.batch(0), ctx)
    return CostMeter(context, cost, flops.total)


def _probe(context: RunContext, status: TrainStatus, names: Sequence[str]) -> Probe:
    evaluator = context.evaluator_on(context.dataset.x_val, context.dataset.y_val)

    def look(name: str) -> Score:
        score = evaluator.evaluate(name, context.model, lambda _: None).score
        return Score(correct=score.correct, total=score.total)

    return Probe(
        epoch=status.epoch,
        step=status.steps,
        train_seconds=status.train_seconds,
        lr=status.lr,
        loss=status.loss,
        scores={name: look(name) for name in names},
    )


def _missed_budget(context: RunContext, training: Training, last: Probe) -> Iterator[Event]:
    """Yield the event that a budget of time was missed by more than a trifle, as batches are long beside it."""
    budget, spent = context.spec.training.train_seconds or 0.0, context.clock.seconds("train")
    if abs(spent - budget) > _TRIFLE * budget:
        each = f"a batch takes {spent / training.batches:.2g} s"
        detail = f"trained for {spent:.3g} s where {budget:.3g} s were the budget: {each}"
        yield Event(kind="missed-budget", step=last.step, epoch=last.epoch, train_seconds=spent, detail=detail)


def _divergence(status: TrainStatus) -> Event:
    return Event(
        kind="diverged",
        step=status.steps,
        epoch=status.epoch,
        train_seconds=status.train_seconds,
        detail="the loss or a weight is no longer finite; noticed at this step",
    )
