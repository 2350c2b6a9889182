"""Real runs whose records are kept: trained alone on the GPU, one after the other, then scored."""

import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.gpu.process import die_with_parent
from benchmarks.gpu.rows import Rows
from benchmarks.gpu.scale import Run
from benchmarks.gpu.section import Section, rounded
from fatbench.cancellation import Interrupted
from fatbench.config.request import Request, RunOptions
from fatbench.config.resolve import resolve
from fatbench.config.spec import RunSpec
from fatbench.evaluation.autoattack.adapter import parts_for
from fatbench.evaluation.autoattack.checkpoint import CLEAN
from fatbench.record import Record, load
from fatbench.record.samples import STANDING
from fatbench.runner import run
from fatbench.runner.observer import Observer

RECORDS = "records"


class _TrainingOnly(Observer):
    """Stops a run where its evaluation would begin; `fatbench resume` evaluates it later."""

    def stage(self, name: str) -> None:
        if name.startswith("evaluating"):
            raise Interrupted


def spec_for(section: Section, wanted: Run) -> RunSpec:
    """The run on CIFAR-10 with a ResNet-18, in a rehearsal on digits."""
    scale = section.scale
    data: dict[str, Any] = {"dataset": "digits", "model": "small-cnn", "limit_train": 256, "threads": 1}
    if section.cifar10:
        data = {"dataset": "cifar10.npz", "model": "resnet18"}
    flags = data | {"epochs": wanted.epochs, "evaluate": list(scale.evaluations), "eval_batch_size": 500}
    flags |= {"engine": "fast", "precision": "bf16", "eval_engine": "fast"}
    request = Request([wanted.method], settings=flags, seeds=str(wanted.seed), eval_samples=str(scale.test_images))
    (spec,) = resolve(request, device=scale.device)
    return spec


def training(section: Section) -> None:
    """Train the runs of the claim, and keep their weights for section `scoring`."""
    _train(section, section.scale.runs)


def seeds(section: Section) -> None:
    """Train further seeds of backward smoothing and TRADES."""
    _train(section, section.scale.more_runs)


def _train(section: Section, wanted: Sequence[Run]) -> None:
    plan = {f"{one.method}, {one.epochs} epochs, seed {one.seed}": one for one in wanted}

    def measure(name: str) -> None:
        spec, folder = spec_for(section, plan[name]), section.output / RECORDS
        started = time.monotonic()
        try:
            record = run(spec, RunOptions(output=folder, force=True, calibration_seconds=0.0), observer=_TrainingOnly())
        except Interrupted:
            record = load(folder / f"{spec.id}.json")
        last = record.history[-1] if record.history else None
        probed = {} if last is None else {f"validation {key}": one.accuracy for key, one in last.scores.items()}
        section.rows.append(
            name,
            method=spec.method,
            record=record.id,
            status=record.budget.stopped_by,
            graph=bool(record.engine and record.engine.in_force.get("graph")),
            notes="; ".join(f"{part}: {why}" for part, why in record.engine.notes.items()) if record.engine else "",
            **rounded(
                train_seconds=record.timing.train,
                wall_seconds=time.monotonic() - started,
                images_per_second=record.throughput.images_per_second if record.throughput else None,
                tflop_per_second=record.compute.flops_per_second / 1e12 if record.compute else None,
                energy_joules=record.energy_joules,
                **probed,
            ),
            noisy=record.throughput.noisy if record.throughput else None,
            memory=record.memory,
        )

    section.each(plan, measure)


def scoring(section: Section) -> None:
    """Score the runs that are trained, one after the other, each in a process of its own that may be cut short."""
    folder = section.output / RECORDS

    def measure(name: str) -> None:
        path, started = folder / f"{name}.json", time.monotonic()
        if not load(path).is_result and not _scored(section, path):
            append_unfinished(section.rows, path)
            return
        record = load(path)
        if not record.is_result:
            raise RuntimeError(f"{record.status}: {record.error or 'see scoring.log'}")
        seconds = round(time.monotonic() - started, 1)
        section.rows.append(name, method=record.spec.method, seed=record.spec.seed, seconds=seconds, **scores(record))

    section.each([path.stem for path in sorted(folder.glob("*.json"), key=_age)], measure)


def _age(path: Path) -> str:
    return load(path).created


def _scored(section: Section, path: Path) -> bool:
    """Let another process score the run, and return whether there was time enough."""
    command = [sys.executable, "-m", "fatbench", "resume", str(path), "--quiet", "--calibration", "0"]
    with (section.output / "scoring.log").open("ab") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, preexec_fn=die_with_parent)
    try:
        process.wait(timeout=max(section.seconds_left, 0.1))
    except subprocess.TimeoutExpired:
        return False
    finally:
        process.kill()
        process.wait()
    return True


def append_unfinished(rows: Rows, path: Path) -> None:
    """Add a row with what is known of a run whose scoring ran out of time; AutoAttack's attacks that are complete."""
    record, state = load(path), path.with_suffix("") / "evaluation" / "autoattack.npz"
    found = scores(record)
    if state.exists():
        arrays = np.load(state, allow_pickle=False)
        broken_by, (attack, position, _) = arrays["broken_by"], arrays["counters"].tolist()
        complete = attack + (position == int(np.isin(broken_by, (STANDING, CLEAN + 1 + attack)).sum()))
        attacks = parts_for(10)[0][:complete]
        standing = (broken_by == STANDING) | (broken_by > CLEAN + complete)
        found |= {"after": " and ".join(attacks), "standing after": [int(standing.sum()), len(broken_by)]}
    rows.append(f"{path.stem}, out of time", method=record.spec.method, seed=record.spec.seed, **found)


def scores(record: Record) -> dict[str, Any]:
    """Return what a row says of a record's scores: counts, and the seconds that each evaluation took."""
    found: dict[str, Any] = {}
    for name, score in record.scores.items():
        found |= {name: [score.correct, score.total], f"{name} seconds": round(score.seconds, 2)}
    return found
