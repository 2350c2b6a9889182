"""run(spec) -> Record: the only place where everything meets."""

from collections.abc import Iterable, Sequence
from itertools import chain
from pathlib import Path
from typing import NamedTuple

from fatbench.cancellation import CancelToken
from fatbench.config.parsing import EVERY_EPOCH, CheckpointInterval
from fatbench.config.spec import RunSpec, Toggle
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
    spec: RunSpec,
    *,
    output: Path,
    data_dir: Path | None = None,
    download: bool = False,
    force: bool = False,
    resume: bool = False,
    checkpoint_every: CheckpointInterval = EVERY_EPOCH,
    require: Sequence[Toggle] = (),
    cancel: CancelToken | None = None,
    calibration_seconds: float = 5.0,
    observer: Observer | None = None,
) -> Record:
    """Train and score what `spec` says, write output/<id>.json as it goes, and return the final record.

    A finished identical run is returned as it is stored, and one that was stopped while it was being scored is scored
    to the end, unless `force`. A diverged run returns too: its record says so. The record of an interrupted or failed
    run keeps its partial results.

    The state of the training is kept beside the record, and `resume` restores it, mid-epoch too: on a CPU
    the result is then, bit for bit, that of a run which was never interrupted. A record that cannot be read is replaced
    by the one in the state.

    Parts of the fast engine in `require` must be in force: otherwise nothing is trained.

    Once per process `calibration_seconds` go into the speed of this device, for the model FLOPs utilisation; 0 leaves
    that unknown.

    Raises:
        FatbenchError: the run cannot be set up, is being run by another process, or fails on the way; with `resume`,
            what is stored is of another spec.
        KeyboardInterrupt: once the run has begun, after its record has been written with status "interrupted". It is
            Interrupted if `cancel` asked for that, and the state has been kept.
    """
    observer = observer or Observer()
    check_requirable(spec, require)
    observer.stage("setting up")
    with threads(spec.threads), training_memory_explained(spec):
        context = set_up(spec, data_dir, download)
    if resume:
        restore_record(output, spec.id, observer)
    intent = _Intent(force, resume, checkpoint_every, require, cancel or CancelToken())
    method = context.method.description.sha256
    with (
        threads(spec.threads or sensible_threads(context)),
        claim_run(context, method, output, force=force, resume=resume) as known,
    ):
        if known is None:
            return _run(context, output, observer, calibration_seconds, intent)
        check_required(known.engine, require)
        observer.reused(known)
        return known


class _Intent(NamedTuple):
    """What to make of what is stored, and of this training's own state."""

    force: bool
    resume: bool
    checkpoint_every: CheckpointInterval
    require: Sequence[Toggle]
    cancel: CancelToken


class _StartingPoint(NamedTuple):
    """Where a run begins: with the evaluation of what is trained, with a state, or at the very beginning."""

    trained: RecordWriter | None
    states: Iterable[Checkpoint]  # the newest first; none: at the beginning
    idle_steps: int  # of a checkpoint that is there, and is not resumed


def _run(context: RunContext, output: Path, observer: Observer, calibration_seconds: float, intent: _Intent) -> Record:
    check_places(context.spec, output)
    trained, states, idle_steps = _starting_point(context, output, observer, intent)
    writer = trained or begin_run(context, output)
    with failures_recorded(writer):
        checkpointer = Checkpointer(writer, intent.checkpoint_every, intent.cancel, idle_steps)
        for finding in check_contract(context):  # before hours of training, not after
            observer.warning(f"{finding.code}: {finding.detail}")
        if trained is not None:
            observer.resumed(writer.record)
        else:
            if not (states or idle_steps):
                checkpointer.discard()  # what is there cannot be used
            with training_memory_explained(context.spec, context):
                train_model(context, writer, observer, checkpointer, states, intent.require)
        healthy = writer.record.budget.stopped_by != "diverged"
        if healthy:
            with evaluation_memory_explained(context.spec):
                score(context, writer, observer)
                score_last(context, writer, observer)
            _calibrate(context, writer, observer, calibration_seconds)
        writer.close("finished" if healthy else "diverged")
    checkpointer.discard()
    return writer.record


def _starting_point(context: RunContext, output: Path, observer: Observer, intent: _Intent) -> _StartingPoint:
    """Look where the run may begin, and say so if it could begin elsewhere than one would think."""
    if intent.force and not intent.resume:
        return _StartingPoint(None, (), 0)
    trained, damage = load_trained(context, output, force=intent.force, require=intent.require)
    if trained is not None:
        return _StartingPoint(trained, (), 0)
    if damage:
        observer.warning(f"{damage}: it is trained again")
    states = usable_checkpoints(context, output, observer, wanted=intent.resume and not damage)
    newest = next(states, None)
    if newest is None:
        if intent.resume:
            find_similar_run(context.spec, output, observer)
            observer.warning("no checkpoint to resume from: starts at the beginning")
        return _StartingPoint(None, (), 0)
    if intent.resume or damage:
        return _StartingPoint(None, chain([newest], states), 0)
    observer.warning(f"starts from scratch; --resume would resume at step {newest.steps} of an earlier process")
    return _StartingPoint(None, (), newest.steps)


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
