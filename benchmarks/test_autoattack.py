"""Time of AutoAttack: the library's own evaluation, then each engine, on the same model and images.

Run by `make bench`; this part alone by `make bench BENCH="-k autoattack"`, which on a GPU is how the fast engine's gain
there is measured: it takes more images and more of the attacks' iterations, and there the fast engine, larger batches.
On a CPU processor time is counted, so that waiting for a busy core costs nothing.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pyautoattack
import pytest
import safetensors.torch
import torch
from pytest_benchmark.fixture import BenchmarkFixture
from torch import Tensor

from benchmarks.evaluation_table import EvaluationRow
from benchmarks.lanes import cifar_shaped
from benchmarks.measuring import clock_for
from benchmarks.shortened import shortened
from fatbench import runner
from fatbench.config.request import Request, RunOptions
from fatbench.config.resolve import resolve
from fatbench.config.spec import EvalEngine
from fatbench.data.loader import to_float
from fatbench.evaluation.autoattack import run_autoattack
from fatbench.evaluation.eval_mode import eval_mode, isolated_rng
from fatbench.models.classifier import Classifier
from fatbench.runner.setup import set_up
from fatbench.threat import Ball, Linf
from fatbench.training.clock import synchronize

SEED, BATCH_SIZE = 0, 250
ENGINES: tuple[EvalEngine, ...] = ("exact", "fast")


@dataclass
class Subject:
    """A model and images that it gets right, and what the library makes of them."""

    name: str
    model: Classifier
    x: Tensor
    y: Tensor
    ball: Ball
    share: float
    seconds: list[float] = field(default_factory=list)  # of the library, round by round
    standing: Tensor | None = None  # by the library

    def timed(self, evaluate: Callable[[], Tensor]) -> tuple[Tensor, float]:
        with eval_mode(self.model), isolated_rng(SEED, self.x.device), shortened(self.share):
            now = clock_for(self.x.device)
            synchronize(self.x.device)
            started = now()
            standing = evaluate()
            synchronize(self.x.device)
            return standing, now() - started

    def by_the_library(self) -> None:
        def evaluate() -> Tensor:
            stock = pyautoattack.AutoAttack(self.model, norm="Linf", eps=self.ball.eps, seed=SEED, device=self.x.device)
            _, predicted = stock.run_standard_evaluation(self.x, self.y, batch_size=BATCH_SIZE)
            return predicted.eq(self.y).cpu()

        self.standing, seconds = self.timed(evaluate)
        self.seconds.append(seconds)

    def by(self, engine: EvalEngine) -> tuple[Tensor, float, str]:
        facts = {}

        def evaluate() -> Tensor:
            eval_result = run_autoattack(
                self.model, self.x, self.y, self.ball, num_classes=10, seed=SEED, batch_size=BATCH_SIZE,
                watch=lambda _: None, engine=engine,
            )  # fmt: skip
            facts.update(eval_result.attack)
            return eval_result.standing

        standing, seconds = self.timed(evaluate)
        arithmetic = f", {facts['arithmetic']}, {facts['batch_size']} at a time" if engine == "fast" else ""
        return standing, seconds, f"{engine}{arithmetic}"

    def row(self, engine: str, seconds: list[float], standing: Tensor) -> EvaluationRow:
        assert self.standing is not None
        speedups = [theirs / mine for theirs, mine in zip(self.seconds[-len(seconds) :], seconds, strict=True)]
        agreeing = int(standing.eq(self.standing).sum())
        own = seconds is self.seconds
        return EvaluationRow(
            self.name, engine, len(self.x), SEED, self.share, list(seconds), [] if own else speedups,
            int(standing.sum()), agreeing,
        )  # fmt: skip


def digits_subject(folder: Path, device: str) -> Subject:
    """The small model trained for seconds, and test images of digits."""
    (spec,) = resolve(Request(["fgsm-rs"], settings={"epochs": 6, "evaluate": ["clean"]}), device=device)
    record = runner.run(spec, RunOptions(output=folder, calibration_seconds=0.0))
    context = set_up(spec, data_dir=None, download=False)
    context.model.load_state_dict(safetensors.torch.load_file(folder / record.artefacts["weights"], device=device))
    x, y = to_float(context.dataset.x_test[:100]), context.dataset.y_test[:100]
    return Subject("small-cnn", context.model, x, y, context.ball, share=0.2)


def resnet_subject(folder: Path, device: str) -> Subject:
    """ResNet-18 as it is born, and noise with the labels that it gives: an eps so small that the images stand.

    What stands is what costs; how far verdicts agree is seen on the small model, which is trained.
    """
    setting = cifar_shaped(folder, batch_size=16)
    context = set_up(setting.spec("standard", "reference fp32", device), data_dir=None, download=False)
    images, share = (8, 0.02) if device == "cpu" else (1000, 0.1)
    model, x = context.model, to_float(context.dataset.x_train[:images])
    with torch.no_grad():
        model(x)  # batch norms see something
        y = model.eval()(x).argmax(1)
    return Subject("resnet18", model, x, y, Linf(0.1 / 255), share)


@pytest.fixture(scope="module", params=[digits_subject, resnet_subject], ids=["small-cnn", "resnet18"])
def subject(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    device: str,
    evaluations: list[EvaluationRow],
) -> Iterator[Subject]:
    subject: Subject = request.param(tmp_path_factory.mktemp("subject"), device)
    place = len(evaluations)
    yield subject
    if subject.standing is not None:
        evaluations.insert(place, subject.row("the library itself", subject.seconds, subject.standing))


@pytest.mark.parametrize("engine", ENGINES)
def test_autoattack(
    benchmark: BenchmarkFixture, subject: Subject, engine: EvalEngine, evaluations: list[EvaluationRow]
) -> None:
    seconds: list[float] = []

    def run() -> tuple[Tensor, str]:
        standing, took, name = subject.by(engine)
        seconds.append(took)
        return standing, name

    standing, name = benchmark.pedantic(run, setup=subject.by_the_library, rounds=1)
    evaluations.append(subject.row(name, seconds, standing))
    assert engine == "fast" or torch.equal(standing, subject.standing)
