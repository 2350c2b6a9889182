"""run(spec) -> Record: the only place where everything meets."""

from collections.abc import Iterable
from itertools import chain
from typing import NamedTuple

from fatbench.cancellation import CancelToken
from fatbench.config.request import RunOptions
from fatbench.config.spec import RunSpec
from fatbench.environment import is_out_of_memory
from fatbench.metering.calibration import peak_flops
from fatbench.record import Record
from fatbench.runner.checkpoint import Checkpoint
from fatbench.runner.checkpointing import Checkpointer
from fatbench.runner.claim import claim_run
from fatbench.runner.evaluate import check_contract, score, score_last
from fatbench.runner.memory import evaluation_memory_explained, training_memory_explained
from fatbench.runner.observer import Observer
from fatbench.runner.record_writer import RecordWriter, begin_run, failures_recorded
from fatbench.runner.requirements import check_requirable, check_required
from fatbench.runner.resume import check_places, find_similar_run, load_trained, restore_record, usable_checkpoints
from fatbench.runner.setup import RunContext, set_up
from fatbench.runner.threads import sensible_threads, threads
from fatbench.runner.train import train_model


def run(
    spec: RunSpec, options: RunOptions, *, observer: Observer | None = None, cancel: CancelToken | None = None
) -> Record:
    """Train and score what `spec` says, write <id>.json as it goes, and return the final record.

    A finished identical run is returned as it is stored, and one that was stopped during its evaluation is scored to
    the end, unless `options.force`. A diverged run returns too: its record says so. The record of an interrupted or
    failed run keeps its partial results.

    A checkpoint of the training is kept beside the record, and `options.resume` restores it, mid-epoch too: on a CPU
    the result is then, bit for bit, that of an uninterrupted run. An unreadable record is replaced by the checkpoint's.

    Raises:
        FatbenchError: the run cannot be set up, another process runs it, or it fails on the way; with `resume`, what is
            stored is of another spec.
        KeyboardInterrupt: once the run has started, after its record has been written with status "interrupted". It is
            Interrupted if `cancel` asked for that, and the checkpoint has been saved.
    """
    observer = observer or Observer()
    check_requirable(spec, options.require)
    observer.stage("setting up")
    with threads(spec.threads), training_memory_explained(spec):
        context = set_up(spec, options.data_dir, options.download)
    for note in [*context.dataset.notes, *context.model.notes]:
        observer.warning(note)
    if options.resume:
        restore_record(options.output, spec.id, observer)
    method = context.method.description.sha256
    with (
        threads(spec.threads or sensible_threads(context)),
        claim_run(context, method, options.output, force=options.force, resume=options.resume) as known,
    ):
        if known is None:
            return _run(context, options, observer, cancel or CancelToken())
        check_required(known.engine, options.require)
        observer.reused(known)
        return known


class _StartingPoint(NamedTuple):
    """Where a run begins: with the evaluation of what is trained, with a checkpoint, or at the very beginning."""

    trained: RecordWriter | None
    checkpoints: Iterable[Checkpoint] | None  # the newest first; None: at the beginning
    stored_steps: int  # of a checkpoint that is there, and is not resumed


def _run(context: RunContext, options: RunOptions, observer: Observer, cancel: CancelToken) -> Record:
    check_places(context.spec, options.output)
    trained, checkpoints, stored_steps = _starting_point(context, options, observer)
    writer = trained or begin_run(context, options.output)
    with failures_recorded(writer):
        checkpointer = Checkpointer(writer, options.checkpoint_every, cancel, stored_steps)
        for finding in check_contract(context):  # before hours of training, not after
            observer.warning(f"{finding.code}: {finding.detail}")
        if trained is not None:
            observer.already_trained(writer.record)
        else:
            if checkpoints is None and not stored_steps:
                checkpointer.discard()  # what is there cannot be used
            with training_memory_explained(context.spec, context):
                train_model(context, writer, observer, checkpointer, checkpoints or (), options.require)
        healthy = writer.record.budget.stopped_by != "diverged"
        if healthy:
            with evaluation_memory_explained(context.spec):
                score(context, writer, observer)
                score_last(context, writer, observer)
            _calibrate(context, writer, observer, options.calibration_seconds)
        writer.close("finished" if healthy else "diverged")
    checkpointer.discard()
    return writer.record


def _starting_point(context: RunContext, options: RunOptions, observer: Observer) -> _StartingPoint:
    """Look where the run may begin, and say so if it could begin elsewhere than one would think."""
    if options.force and not options.resume:
        return _StartingPoint(None, None, 0)
    trained, damage = load_trained(context, options.output, force=options.force, require=options.require)
    if trained is not None:
        return _StartingPoint(trained, None, 0)
    if damage:
        observer.warning(f"{damage}: it is trained again")
    usable = usable_checkpoints(context, options.output, observer, wanted=options.resume and not damage)
    newest = next(usable, None)
    if newest is None:
        if options.resume:
            find_similar_run(context.spec, options.output, observer)
            observer.warning("no checkpoint to resume from: starts at the beginning")
        return _StartingPoint(None, None, 0)
    if options.resume or damage:
        return _StartingPoint(None, chain([newest], usable), 0)
    observer.warning(f"starts from scratch; --resume would resume at step {newest.steps} of an earlier process")
    return _StartingPoint(None, None, newest.steps)


def _calibrate(context: RunContext, writer: RecordWriter, observer: Observer, seconds: float) -> None:
    """Say how much of what the device can do the training made use of; `seconds` are spent on that, or none."""
    compute = writer.record.compute
    if not seconds or compute is None:
        return
    observer.stage("calibrating")
    try:
        with context.clock.phase("calibration"):
            peak = peak_flops(context.device, context.spec.training.precision, seconds)
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        return  # a full device is no reason to lose a result
    found = {"peak_flops_per_second": peak, "mfu": compute.flops_per_second / peak}
    writer.note(compute=compute.model_copy(update=found))
