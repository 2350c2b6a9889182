"""run(spec) -> Record: the only place where everything meets."""

from collections.abc import Iterable, Sequence
from itertools import chain
from pathlib import Path
from typing import NamedTuple

from fatbench.environment import is_out_of_memory
from fatbench.every import EVERY_EPOCH, Every
from fatbench.metering.calibration import peak_flops
from fatbench.record import Record
from fatbench.runner.bench import Bench, set_up
from fatbench.runner.claiming import claim
from fatbench.runner.fitting import fit
from fatbench.runner.grading import grade, grade_last
from fatbench.runner.journal import Journal, failures_recorded, open_journal
from fatbench.runner.memory import evaluation_memory_explained, training_memory_explained
from fatbench.runner.observer import Observer
from fatbench.runner.recovering import put_record_back
from fatbench.runner.requirements import check_required, refuse_contradiction
from fatbench.runner.resuming import check_places, look_for_another, usable_states
from fatbench.runner.saved import Saved
from fatbench.runner.saving import Saver
from fatbench.runner.scoring import look_for_breaches
from fatbench.runner.stored import trained_journal
from fatbench.runner.threads import sensible_threads, threads
from fatbench.spec import RunSpec, Toggle
from fatbench.stop import Stop


def run(
    spec: RunSpec,
    *,
    output: Path,
    data_dir: Path | None = None,
    download: bool = False,
    force: bool = False,
    resume: bool = False,
    every: Every = EVERY_EPOCH,
    require: Sequence[Toggle] = (),
    stop: Stop | None = None,
    calibration_seconds: float = 5.0,
    observer: Observer | None = None,
) -> Record:
    """Train and score what `spec` says, write output/<id>.json as it goes, and return the final record.

    A finished identical run is returned as it is stored, and one that was stopped while it was being scored is scored
    to the end, unless `force`. A diverged run returns too: its record says so. The record of an interrupted or failed
    run keeps what was earned.

    The state of the training is kept beside the record, and with `resume` it is gone on from, mid-epoch too: on a CPU
    the result is then, bit for bit, that of a run which was never interrupted. A record that cannot be read is replaced
    by the one in the state.

    Parts of the fast engine in `require` must be in force: otherwise nothing is trained.

    Once per process `calibration_seconds` go into the speed of this device, for the model FLOPs utilisation; 0 leaves
    that unknown.

    Raises:
        FatbenchError: the run cannot be set up, is being run by another process, or fails on the way; with `resume`,
            what is stored is of another spec.
        KeyboardInterrupt: once the run has begun, after its record has been written with status "interrupted". It is
            Interrupted if `stop` asked for that, and the state has been kept.
    """
    observer = observer or Observer()
    refuse_contradiction(spec, require)
    observer.stage("setting up")
    with threads(spec.threads), training_memory_explained(spec):
        bench = set_up(spec, data_dir, download)
    if resume:
        put_record_back(output, spec.id, observer)
    intent = _Intent(force, resume, every, require, stop or Stop())
    method = bench.method.description.sha256
    with (
        threads(spec.threads or sensible_threads(bench)),
        claim(bench, method, output, force=force, resume=resume) as known,
    ):
        if known is None:
            return _run(bench, output, observer, calibration_seconds, intent)
        check_required(known.engine, require)
        observer.reused(known)
        return known


class _Intent(NamedTuple):
    """What to make of what is stored, and of this training's own state."""

    force: bool
    resume: bool
    every: Every
    require: Sequence[Toggle]
    stop: Stop


class _Beginning(NamedTuple):
    """Where a run begins: with the evaluation of what is trained, with a state, or at the very beginning."""

    trained: Journal | None
    states: Iterable[Saved]  # the newest first; none: at the beginning
    idle_steps: int  # of a state that is there, and is not gone on from


def _run(bench: Bench, output: Path, observer: Observer, calibration_seconds: float, intent: _Intent) -> Record:
    check_places(bench.spec, output)
    trained, states, idle_steps = _beginning(bench, output, observer, intent)
    journal = trained or open_journal(bench, output)
    with failures_recorded(journal):
        saver = Saver(journal, intent.every, intent.stop, idle_steps)
        for breach in look_for_breaches(bench):  # before hours of training, not after
            observer.remark(f"{breach.code}: {breach.detail}")
        if trained is not None:
            observer.resumed(journal.record)
        else:
            if not (states or idle_steps):
                saver.discard()  # what is there is of no use
            with training_memory_explained(bench.spec, bench):
                fit(bench, journal, observer, saver, states, intent.require)
        healthy = journal.record.budget.stopped_by != "diverged"
        if healthy:
            with evaluation_memory_explained(bench.spec):
                grade(bench, journal, observer)
                grade_last(bench, journal, observer)
            _calibrate(bench, journal, observer, calibration_seconds)
        journal.close("finished" if healthy else "diverged")
    saver.discard()
    return journal.record


def _beginning(bench: Bench, output: Path, observer: Observer, intent: _Intent) -> _Beginning:
    """Look where the run may begin, and say so if it could begin elsewhere than one would think."""
    if intent.force and not intent.resume:
        return _Beginning(None, (), 0)
    trained, damage = trained_journal(bench, output, force=intent.force, require=intent.require)
    if trained is not None:
        return _Beginning(trained, (), 0)
    if damage:
        observer.remark(f"{damage}: it is trained again")
    states = usable_states(bench, output, observer, wanted=intent.resume and not damage)
    newest = next(states, None)
    if newest is None:
        if intent.resume:
            look_for_another(bench.spec, output, observer)
            observer.remark("no state to go on from: starts at the beginning")
        return _Beginning(None, (), 0)
    if intent.resume or damage:
        return _Beginning(None, chain([newest], states), 0)
    observer.remark(f"starts anew; --resume would go on from step {newest.steps} of an earlier process")
    return _Beginning(None, (), newest.steps)


def _calibrate(bench: Bench, journal: Journal, observer: Observer, seconds: float) -> None:
    """Say how much of what the device can do the training made use of; `seconds` are spent on that, or none."""
    compute = journal.record.compute
    if not seconds or compute is None:
        return
    observer.stage("calibrating")
    try:
        with bench.clock.phase("calibration"):
            peak = peak_flops(bench.device, bench.spec.precision, seconds)
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        return  # a full device is no reason to lose a result
    found = {"peak_flops_per_second": peak, "mfu": compute.flops_per_second / peak}
    journal.note(compute=compute.model_copy(update=found))
