"""run(spec) -> Record: the only place where everything meets."""

from collections.abc import Sequence
from pathlib import Path

import torch

from fatbench.environment import peak_memory, reset_peak_memory
from fatbench.errors import UsageError
from fatbench.evaluation.measuring import isolated_randomness
from fatbench.metering.calibration import peak_flops
from fatbench.metering.flops import counted_flops
from fatbench.record import PROTOCOL, Event, Probe, Record, Score, load
from fatbench.record.samples import FILE as SAMPLES
from fatbench.record.samples import save_samples
from fatbench.runner.accounting import Account
from fatbench.runner.bench import Bench, set_up
from fatbench.runner.goal import Goal
from fatbench.runner.journal import Journal, failures_recorded, open_journal
from fatbench.runner.memory import evaluation_memory_explained, training_memory_explained
from fatbench.runner.observer import Observer
from fatbench.runner.scoring import Sat, sit_exams
from fatbench.runner.threads import sensible_threads, threads
from fatbench.spec import RunSpec
from fatbench.training.checkpoint import FILE as WEIGHTS
from fatbench.training.checkpoint import save_weights
from fatbench.training.loop import Pulse
from fatbench.training.passes import count_passes
from fatbench.training.preparation import fast_kernels, prepare


def run(
    spec: RunSpec,
    *,
    output: Path,
    data_dir: Path | None = None,
    download: bool = False,
    force: bool = False,
    calibration_seconds: float = 5.0,
    observer: Observer | None = None,
) -> Record:
    """Train and score what `spec` says, write output/<id>.json as it goes, and return the final record.

    A finished identical run is returned as it is stored, unless `force`. A diverged run returns too: its record says
    so. The record of an interrupted or failed run keeps what was earned.

    Once per process `calibration_seconds` go into the speed of this device, for the model FLOPs utilisation; 0 leaves
    that unknown.

    Raises:
        FatbenchError: the run cannot be set up, or fails on the way.
        KeyboardInterrupt: once the run has begun, after its record has been written with status "interrupted".
    """
    observer = observer or Observer()
    observer.stage("setting up")
    with threads(spec.threads), training_memory_explained(spec):
        bench = set_up(spec, data_dir, download)
    known = None if force else _stored(bench, output)
    if known is not None:
        observer.reused(known)
        return known
    with threads(spec.threads or sensible_threads(bench)):
        journal = open_journal(bench, output)
        with failures_recorded(journal):
            with training_memory_explained(spec):
                healthy = _train(bench, journal, observer)
            if healthy:
                with evaluation_memory_explained(spec):
                    _score(bench, journal, observer)
                _calibrate(bench, journal, observer, calibration_seconds)
            journal.close("finished" if healthy else "diverged")
    return journal.record


def _stored(bench: Bench, output: Path) -> Record | None:
    """Return the finished record of an identical run: the same spec, method source, data and protocol."""
    path = output / f"{bench.spec.id}.json"
    if not path.exists():
        return None
    try:
        record = load(path)
    except UsageError as error:
        raise UsageError(f"{error}; --force replaces it") from None
    same_method = record.method.sha256 == bench.method.description.sha256
    same_data = record.data is not None and record.data.sha256 == bench.dataset.sha256
    return record if record.finished and same_method and same_data and record.protocol == PROTOCOL else None


def _train(bench: Bench, journal: Journal, observer: Observer) -> bool:
    """Train to the end of the budget, probing every epoch, and save the weights; return False if the run diverged."""
    reset_peak_memory(bench.device)
    observer.stage("warming up")
    account = _warm_up(bench)
    goal = Goal(bench.spec)
    with bench.clock.phase("warmup"), isolated_randomness(bench.spec.seed, bench.device), fast_kernels(bench.spec):
        training = bench.training()
        journal.note(engine=prepare(training, account.cost.updates, bench.spec))

    def watch(pulse: Pulse) -> None:
        account.watch(pulse)
        observer.training(pulse, pulse.steps * bench.spec.batch_size / max(pulse.train_seconds, 1e-9))

    def end_epoch(pulse: Pulse) -> bool:
        with account.energy.paused(), evaluation_memory_explained(bench.spec):
            probe = _probe(bench, pulse, goal.probes)
        observer.probed(probe)
        journal.note_often(history=[*journal.record.history, probe], **account.effort(training))
        return goal.reached(probe)

    observer.stage("training")
    try:
        with fast_kernels(bench.spec), account.energy.on():
            stopped_by = training.run(watch, end_epoch)
    finally:  # an interrupted or failed run has its account settled too
        events = [*journal.record.events, *account.events()]
        journal.note(**account.settled(training), events=events, target=goal.info)
    budget = journal.record.budget.model_copy(update={"stopped_by": stopped_by})
    journal.note(memory=_memory(bench, "training"), budget=budget)
    if stopped_by == "diverged":
        journal.note(events=[*journal.record.events, _divergence(training.pulse())])
        return False
    with bench.clock.phase("checkpoint"):
        save_weights(bench.model, journal.artefact(WEIGHTS), {"id": bench.spec.id, "model": bench.spec.model})
    journal.keep("weights", journal.artefact(WEIGHTS))
    return True


def _calibrate(bench: Bench, journal: Journal, observer: Observer, seconds: float) -> None:
    """Say how much of what the device can do the training made use of; `seconds` are spent on that, or none."""
    compute = journal.record.compute
    if not seconds or compute is None:
        return
    observer.stage("calibrating")
    try:
        with bench.clock.phase("calibration"):
            peak = peak_flops(bench.device, bench.spec.precision, seconds)
    except torch.OutOfMemoryError:
        return  # a full device is no reason to lose a result
    found = {"peak_flops_per_second": peak, "mfu": compute.flops_per_second / peak}
    journal.note(compute=compute.model_copy(update=found))


def _score(bench: Bench, journal: Journal, observer: Observer) -> None:
    """Run every evaluation that the spec names, and keep what became of every image."""
    reset_peak_memory(bench.device)

    def done(name: str, sat: Sat) -> None:
        journal.note(scores={**journal.record.scores, name: sat.sitting.score})

    results = sit_exams(bench, observer, journal.artefact("evaluation"), done)
    if results.by_name:
        file = journal.artefact(SAMPLES)
        save_samples(results.samples(bench), file)
        journal.keep("samples", file)
    journal.note(memory={**journal.record.memory, **_memory(bench, "evaluation")})


def _warm_up(bench: Bench) -> Account:
    """Run one batch without stepping, which pays for lazy initialisation and counts its cost; leave no trace.

    The cost is the model's own: an engine that computes the same with more or fewer operations is not credited.
    """
    kernels, randomness = fast_kernels(bench.spec), isolated_randomness(bench.spec.seed, bench.device)
    with bench.clock.phase("warmup"), kernels, randomness, counted_flops() as flops:
        cost = count_passes(bench.model, bench.method, bench.loader.batch(0), bench.context())
    return Account(bench, cost, flops.total)


def _probe(bench: Bench, pulse: Pulse, names: Sequence[str]) -> Probe:
    exam = bench.exam_on(bench.dataset.x_val, bench.dataset.y_val)

    def look(name: str) -> Score:
        score = exam.sit(name, bench.model, lambda _: None).score
        return Score(correct=score.correct, total=score.total)

    return Probe(
        epoch=pulse.epoch,
        step=pulse.steps,
        train_seconds=pulse.train_seconds,
        lr=pulse.lr,
        loss=pulse.loss,
        scores={name: look(name) for name in names},
    )


def _divergence(pulse: Pulse) -> Event:
    return Event(
        kind="diverged",
        step=pulse.steps,
        epoch=pulse.epoch,
        train_seconds=pulse.train_seconds,
        detail="the loss or a weight is no longer finite; noticed at this step",
    )


def _memory(bench: Bench, phase: str) -> dict[str, int]:
    return {f"{phase}_{name}": size for name, size in peak_memory(bench.device).items()}
