"""run(spec) -> Record: the only place where everything meets."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fatbench import data, methods, models
from fatbench.data.dataset import Dataset
from fatbench.data.loader import Loader, to_float
from fatbench.environment import describe_environment, peak_memory, reset_peak_memory
from fatbench.errors import FatbenchError, ResourceError, UsageError
from fatbench.evaluation.measuring import isolated_randomness
from fatbench.evaluation.scores import evaluate
from fatbench.interface import Context
from fatbench.methods import Method
from fatbench.models.classifier import Classifier
from fatbench.record import Budget as BudgetInfo
from fatbench.record import DataInfo, Event, MethodInfo, Probe, Record, Score, Timing, load, save
from fatbench.spec import RunSpec
from fatbench.threat import Ball, make_ball
from fatbench.training.budget import Budget
from fatbench.training.checkpoint import save_weights
from fatbench.training.clock import Clock
from fatbench.training.loop import Pulse, Training
from fatbench.training.passes import BatchCost, count_passes

PROBES = ("clean", "pgd-10")  # on the validation images, every epoch, off the clock
_SAVE_SECONDS = 1.0  # between two writes of a running record


class Observer:
    """Whoever watches a run; this one is silent."""

    def stage(self, name: str) -> None:
        """A new stage has begun."""

    def training(self, pulse: Pulse, images_per_second: float) -> None:
        """Training is at `pulse`."""

    def probed(self, probe: Probe) -> None:
        """The model was looked at on validation images."""

    def evaluating(self, name: str, done: int, total: int, part: str) -> None:
        """The evaluation `name` has settled `done` of `total` images and is at `part`."""

    def scored(self, name: str, score: Score) -> None:
        """The evaluation `name` is complete."""


@dataclass(frozen=True)
class Bench:
    """A run that is set up and has not begun: its data on the device, its model built."""

    spec: RunSpec
    method: Method
    dataset: Dataset
    loader: Loader
    model: Classifier
    ball: Ball
    device: torch.device
    clock: Clock

    def context(self) -> Context:
        """A fresh context for the method."""
        return Context(
            ball=self.ball,
            num_train=len(self.dataset.x_train),
            step=torch.zeros((), dtype=torch.int64, device=self.device),
            progress=torch.zeros((), device=self.device),
        )

    def score(self, name: str, x: Tensor, y: Tensor, observer: Observer) -> Score:
        """The model's score on the uint8 images x under the evaluation `name`."""

        def watch(done: int, total: int, part: str) -> None:
            observer.evaluating(name, done, total, part)

        return evaluate(name, self.model, to_float(x), y, self.ball, num_classes=self.dataset.num_classes, watch=watch)


class Journal:
    """The record of a run as it grows; what is earned is on disk soon after."""

    def __init__(self, record: Record, output: Path, clock: Clock) -> None:
        self.record = record
        self.folder = output
        self._clock = clock
        self._saved = 0.0

    def note(self, **fields: Any) -> None:
        """Add to the record; write it unless it was written a moment ago."""
        timing = Timing(**{name: self._clock.seconds(name) for name in Timing.model_fields})
        self.record = self.record.model_copy(update={"timing": timing, **fields})
        if time.monotonic() - self._saved > _SAVE_SECONDS:
            self.write()

    def write(self) -> Path:
        """Write the record now and return its path."""
        self._saved = time.monotonic()
        return save(self.record, self.folder)


def stored(spec: RunSpec, output: Path) -> Record | None:
    """Return the finished record of an identical run, if `output` holds one made by the method's present source."""
    path = output / f"{spec.id}.json"
    if not path.exists():
        return None
    record = load(path)
    same = record.method.sha256 == methods.describe(spec.method).sha256
    return record if record.finished and same else None


def run(
    spec: RunSpec,
    *,
    output: Path,
    data_dir: Path | None = None,
    download: bool = False,
    observer: Observer | None = None,
) -> Record:
    """Train and score what `spec` says, write output/<id>.json as it goes, and return the final record.

    A diverged run returns too: its record says so. The record of an interrupted or failed run keeps what was earned.

    Raises:
        FatbenchError: the run cannot be set up, or fails on the way.
        KeyboardInterrupt: after the record has been written with status "interrupted".
    """
    observer = observer or Observer()
    with _threads(spec.threads):
        observer.stage("setting up")
        bench = _set_up(spec, data_dir, download)
        journal = Journal(_first_record(bench), output, bench.clock)
        journal.write()
        with _failures_recorded(journal):
            _train(bench, journal, observer)
            if journal.record.status == "running":
                _score(bench, journal, observer)
                journal.note(status="finished")
        journal.write()
    return journal.record


def _set_up(spec: RunSpec, data_dir: Path | None, download: bool) -> Bench:
    """Load data and build the model, from the seed on: split, weights, order and noise all follow from it."""
    device = torch.device(spec.device)
    clock = Clock(device)
    with clock.phase("setup"), _out_of_memory_explained(spec):
        method = methods.load(spec.method, **spec.hyper)
        if spec.norm not in method.description.norms:
            raise UsageError(f"{method.name} is not defined for --norm {spec.norm}: it has {method.description.norms}")
        dataset = data.load(
            spec.dataset, seed=spec.seed, data_dir=data_dir, download=download, limit_train=spec.limit_train
        ).to(device)
        torch.manual_seed(spec.seed)
        model = models.build(
            spec.model,
            num_classes=dataset.num_classes,
            shape=dataset.shape,
            mean=dataset.mean,
            std=dataset.std,
            precision=spec.precision,
        ).to(device)
        loader = Loader(
            dataset.x_train,
            dataset.y_train,
            batch_size=spec.batch_size,
            seed=spec.seed,
            pad=spec.pad,
            flip=spec.flip,
        )
        model.train()
    return Bench(spec, method, dataset, loader, model, make_ball(spec.norm, spec.epsilon), device, clock)


def _first_record(bench: Bench) -> Record:
    spec, dataset, method = bench.spec, bench.dataset, bench.method
    return Record(
        id=spec.id,
        status="running",
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        spec=spec,
        method=MethodInfo(name=method.name, hyper=spec.hyper, sha256=method.description.sha256, source=method.source),
        budget=BudgetInfo(epochs=spec.epochs, train_seconds=spec.train_seconds),
        data=DataInfo(
            name=dataset.name,
            train=len(dataset.x_train),
            validation=len(dataset.x_val),
            test=len(dataset.x_test),
            shape=dataset.shape,
            classes=dataset.num_classes,
            subset=dataset.subset,
            sha256=dataset.sha256,
        ),
        parameters=sum(parameter.numel() for parameter in bench.model.parameters()),
        environment=describe_environment(bench.device),
    )


def _train(bench: Bench, journal: Journal, observer: Observer) -> None:
    """Train to the end of the budget, or to divergence, probing every epoch; save the weights."""
    spec, clock = bench.spec, bench.clock
    reset_peak_memory(bench.device)
    observer.stage("warming up")
    cost = _warm_up(bench)
    training = Training(
        model=bench.model,
        method=bench.method,
        loader=bench.loader,
        ctx=bench.context(),
        optimizer=torch.optim.SGD(
            bench.model.parameters(), lr=spec.lr, momentum=spec.momentum, weight_decay=spec.weight_decay
        ),
        schedule=spec.schedule,
        peak_lr=spec.lr,
        budget=Budget(
            steps=spec.epochs * len(bench.loader) if spec.epochs is not None else None, seconds=spec.train_seconds
        ),
        clock=clock,
    )

    def watch(pulse: Pulse) -> None:
        observer.training(pulse, pulse.steps * spec.batch_size / max(pulse.train_seconds, 1e-9))

    def end_epoch(pulse: Pulse) -> None:
        probe = _probe(bench, pulse)
        observer.probed(probe)
        journal.note(history=[*journal.record.history, probe], **_effort(bench, pulse, cost))

    observer.stage("training")
    stopped_by = training.run(watch, end_epoch)
    last = training.pulse()
    journal.note(
        **_effort(bench, last, cost),
        budget=journal.record.budget.model_copy(update={"stopped_by": stopped_by}),
        memory={f"training_{name}": size for name, size in peak_memory(bench.device).items()},
    )
    if stopped_by == "diverged":
        event = Event(
            kind="diverged",
            step=last.steps,
            epoch=last.epoch,
            train_seconds=last.train_seconds,
            detail="the loss or a weight is no longer finite; noticed at this step",
        )
        journal.note(status="diverged", events=[*journal.record.events, event])
        return
    with clock.phase("checkpoint"):
        weights = Path(spec.id) / "model.safetensors"
        save_weights(bench.model, journal.folder / weights, {"id": spec.id, "model": spec.model})
    journal.note(artefacts={"weights": weights.as_posix()})


def _warm_up(bench: Bench) -> BatchCost:
    """Run one batch without stepping, which pays for lazy initialisation and counts passes; leave no trace."""
    with bench.clock.phase("warmup"), isolated_randomness(bench.spec.seed, bench.device):
        return count_passes(bench.model, bench.method, bench.loader.batch(0), bench.context())


def _effort(bench: Bench, pulse: Pulse, cost: BatchCost) -> dict[str, Any]:
    return {
        "steps": pulse.steps,
        "data_passes": pulse.batches / len(bench.loader),
        "passes": cost.times(pulse.steps),
    }


def _probe(bench: Bench, pulse: Pulse) -> Probe:
    silent = Observer()
    scores = {name: bench.score(name, bench.dataset.x_val, bench.dataset.y_val, silent) for name in PROBES}
    return Probe(
        epoch=pulse.epoch,
        step=pulse.steps,
        train_seconds=pulse.train_seconds,
        lr=pulse.lr,
        loss=pulse.loss,
        scores={name: Score(correct=score.correct, total=score.total) for name, score in scores.items()},
    )


def _score(bench: Bench, journal: Journal, observer: Observer) -> None:
    """Run every evaluation that the spec names on its share of the test images."""
    reset_peak_memory(bench.device)
    for name, samples in bench.spec.evaluations.items():
        observer.stage(f"evaluating {name}")
        rows = bench.dataset.test_subset(samples).to(bench.device)
        with bench.clock.phase("evaluation"):
            score = bench.score(name, bench.dataset.x_test[rows], bench.dataset.y_test[rows], observer)
        observer.scored(name, score)
        journal.note(scores={**journal.record.scores, name: score})
    memory = {f"evaluation_{name}": size for name, size in peak_memory(bench.device).items()}
    journal.note(memory={**journal.record.memory, **memory})


@contextmanager
def _failures_recorded(journal: Journal) -> Iterator[None]:
    """Whatever ends the run early, its record says so before the exception goes on."""
    try:
        with _out_of_memory_explained(journal.record.spec):
            yield
    except KeyboardInterrupt:
        _close(journal, "interrupted", None)
        raise
    except Exception as error:
        _close(
            journal, "failed", str(error) if isinstance(error, FatbenchError) else f"{type(error).__name__}: {error}"
        )
        raise


def _close(journal: Journal, status: str, error: str | None) -> None:
    budget = journal.record.budget
    if budget.stopped_by is None:
        budget = budget.model_copy(update={"stopped_by": status})
    journal.note(status=status, error=error, budget=budget)
    journal.write()


@contextmanager
def _out_of_memory_explained(spec: RunSpec) -> Iterator[None]:
    try:
        yield
    except (torch.OutOfMemoryError, MemoryError):
        raise ResourceError(f"out of memory at --batch-size {spec.batch_size}: try {spec.batch_size // 2}") from None
    except RuntimeError as error:
        if "DefaultCPUAllocator" not in str(error):  # torch reports a full CPU memory as a plain RuntimeError
            raise
        raise ResourceError(f"out of memory at --batch-size {spec.batch_size}: try {spec.batch_size // 2}") from None


@contextmanager
def _threads(number: int | None) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(number or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)
