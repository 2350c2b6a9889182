"""run(spec) -> Record: the only place where everything meets."""

from pathlib import Path

import torch

from fatbench.metering.calibration import peak_flops
from fatbench.record import Record
from fatbench.runner.bench import Bench, set_up
from fatbench.runner.fitting import fit
from fatbench.runner.grading import grade, grade_last
from fatbench.runner.journal import Journal, failures_recorded, open_journal
from fatbench.runner.memory import evaluation_memory_explained, training_memory_explained
from fatbench.runner.observer import Observer
from fatbench.runner.scoring import look_for_breaches
from fatbench.runner.stored import finished_record, trained_journal
from fatbench.runner.threads import sensible_threads, threads
from fatbench.spec import RunSpec


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

    A finished identical run is returned as it is stored, and one that was stopped while it was being scored is scored
    to the end, unless `force`. A diverged run returns too: its record says so. The record of an interrupted or failed
    run keeps what was earned.

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
    known = None if force else finished_record(bench, bench.method.description.sha256, output)
    if known is not None:
        observer.reused(known)
        return known
    with threads(spec.threads or sensible_threads(bench)):
        trained = None if force else trained_journal(bench, output)
        journal = trained or open_journal(bench, output)
        with failures_recorded(journal):
            for breach in look_for_breaches(bench):  # before hours of training, not after
                observer.remark(f"{breach.code}: {breach.detail}")
            if trained is not None:
                observer.resumed(journal.record)
            else:
                with training_memory_explained(spec, bench):
                    fit(bench, journal, observer)
            healthy = journal.record.budget.stopped_by != "diverged"
            if healthy:
                with evaluation_memory_explained(spec):
                    grade(bench, journal, observer)
                    grade_last(bench, journal, observer)
                _calibrate(bench, journal, observer, calibration_seconds)
            journal.close("finished" if healthy else "diverged")
    return journal.record


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
