"""Whole runs on the simulated GPU: with a graph or without, interrupted or not, and when a recording fails."""

import itertools
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import torch

from fatbench.config.request import Request
from fatbench.config.resolve import resolve
from fatbench.config.spec import RunSpec
from fatbench.record import Record, load
from fatbench.runner.timing import contend
from fatbench.training.engine import capture
from tests.cli.conftest import Said
from tests.runner.test_resume import assert_alike, leave_off
from tests.runner.test_runner import run, weights

from .device import Device
from .training import gpu_with_a_padded_stem

FEW = {"limit_train": 128, "batch_size": 32, "epochs": 2, "evaluate": ["clean"]}
SCORED = {"evaluate": ["clean", "pgd-2", "autoattack"], "samples": "6"}


@pytest.fixture(scope="module")
def eager(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Record]:
    """A run without a graph."""
    folder = tmp_path_factory.mktemp("eager")
    with gpu_with_a_padded_stem():
        return folder, run(make_spec("bs-trades", without=["graph"], **SCORED), output=folder)


@pytest.fixture(autouse=True)
def gpu() -> Iterator[Device]:
    with gpu_with_a_padded_stem() as found:
        yield found


def make_spec(method: str, *, hyper: Sequence[str] = (), samples: str | None = None, **flags: Any) -> RunSpec:
    request = Request([method], settings={"engine": "fast", **FEW, **flags}, hyper=hyper, eval_samples=samples)
    return resolve(request, device="cuda")[0]


def scores(record: Record) -> dict[str, int]:
    return {name: score.correct for name, score in record.scores.items()}


def assert_same_end(folder: Path, mine: Record, eager: tuple[Path, Record]) -> None:
    its_folder, theirs = eager
    one, other = weights(folder, mine), weights(its_folder, theirs)
    assert all(torch.equal(one[name], other[name]) for name in other)
    assert [probe.loss for probe in mine.history] == [probe.loss for probe in theirs.history]
    assert {name: theirs.scores[name].correct for name in mine.scores} == scores(mine)


def test_a_run_is_captured_and_ends_as_one_that_is_not(tmp_path: Path, eager: tuple[Path, Record]) -> None:
    record = run(make_spec("bs-trades", **SCORED), output=tmp_path)
    assert record.engine is not None
    assert record.engine.in_force["graph"]
    assert record.status == "finished"
    assert record.scores["autoattack"].total == 6
    assert_same_end(tmp_path, record, eager)


@pytest.mark.parametrize(("method", "hyper"), [("free-at", "replays=3"), ("fgsm-pco", "alpha=1")])
def test_a_captured_run_resumes_bit_for_bit(tmp_path: Path, method: str, hyper: str) -> None:
    spec = make_spec(method, hyper=[hyper])
    run(spec, output=tmp_path / "a")
    leave_off(spec, tmp_path / "b", 3)
    record = run(spec, output=tmp_path / "b", resume=True)
    assert record.engine is not None
    assert record.engine.in_force["graph"]
    assert_alike(tmp_path / "a", tmp_path / "b", spec)


# Recordings that fail

ERRORS = {
    "a fault of the device": (RuntimeError, "CUDA error: misaligned address"),
    "no memory": (torch.OutOfMemoryError, "CUDA out of memory. Tried to allocate 20 GiB"),
}
CALLS = {"warm-up": 1, "rehearsal": 3, "capture": 4}


def failing(where: str, error: str) -> Any:
    """Let the work fail once it is done, in the `where` call of a recording."""
    recorded = capture._recorded

    def broken(work: Callable[[], None], stream: Any) -> Callable[[], None]:
        calls = itertools.count(1)

        def faulty() -> None:
            work()
            torch.rand(3, device="cuda")
            if next(calls) == CALLS[where]:
                kind, text = ERRORS[error]
                raise kind(text)

        return recorded(faulty, stream)

    return mock.patch.object(capture, "_recorded", broken)


@pytest.mark.parametrize(
    ("where", "error"), [*((where, "a fault of the device") for where in CALLS), ("capture", "no memory")]
)
def test_a_recording_that_fails_costs_no_run(
    tmp_path: Path, where: str, error: str, eager: tuple[Path, Record], fatbench: Callable[..., Said]
) -> None:
    stream = torch.cuda.current_stream()
    with failing(where, error):
        record = run(make_spec("bs-trades", evaluate=["clean"], samples="6"), output=tmp_path)
    assert torch.cuda.current_stream() is stream
    assert record.status == "finished"
    assert_same_end(tmp_path, record, eager)
    assert record.engine is not None
    assert (record.engine.in_force["graph"], record.engine.capture_seconds) == (False, 0.0)
    assert record.engine.notes["graph"].startswith("capture failed: ")
    shown = fatbench("show", f"{record.id}.json")
    assert shown.code == 0
    assert f"no graph: capture failed: {ERRORS[error][0].__name__}: " in " ".join(shown.out.split())


TINY = ("--method=fgsm-rs", "--epochs=1", "--limit-train=128", "--engine=fast", "--calibration=0")
TINY += ("--eval=clean", "--eval-samples=6")


def test_who_requires_a_graph_hears_why_there_is_none_and_nothing_is_trained(
    tmp_path: Path, fatbench: Callable[..., Said]
) -> None:
    with failing("capture", "a fault of the device"):
        said = fatbench("run", *TINY, "--quiet", "--device", "cuda", "--require", "graph")
    assert said.code == 6
    assert said.complaint.startswith("--require graph: not in force: capture failed: RuntimeError: CUDA error")
    (record,) = (load(path) for path in (tmp_path / "results").glob("*.json"))
    assert (record.status, record.steps) == ("failed", 0)


def test_who_requires_a_graph_gets_one_and_without_a_gpu_an_answer(fatbench: Callable[..., Said]) -> None:
    said = fatbench("run", *TINY, "--json", "--device", "cuda", "--require", "graph")
    assert said.code == 0
    assert json.loads(said.out)[0]["engine"]["in_force"]["graph"]
    said = fatbench("run", *TINY, "--json", "--device", "cpu", "--require", "graph")
    assert said.code == 6
    assert said.complaint == "--require graph: CUDA graphs need a GPU"


def test_a_run_and_its_timing_choose_the_stem_by_the_same_kernels(tmp_path: Path) -> None:
    """Which of them is fastest depends on what the device may do: TensorFloat-32, and a search for the best kernel."""
    seen: list[tuple[object, ...]] = []

    def fastest_stem(*_: object) -> int:
        backends: Any = torch.backends
        seen.append((backends.cudnn.benchmark, backends.cudnn.conv.fp32_precision, torch.get_num_threads()))
        return 4

    spec = make_spec("fgsm-rs")
    with mock.patch("fatbench.runner.setup.fastest_stem", fastest_stem):
        run(spec, output=tmp_path)
        contend(spec)
    in_run, in_timing = seen
    assert in_run == in_timing
    assert in_run[0], "kernels are searched for"


def test_a_graph_takes_logits_out_of_a_tuple_and_coloured_copies_of_grey_images(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("net.py").write_text(
        "import torch\nfrom torch import nn\n"
        "class Net(nn.Module):\n"
        "    def __init__(self, num_classes=10):\n"
        "        super().__init__()\n"
        "        self.unused = nn.Parameter(torch.zeros(8, num_classes))\n"
        "        self.body = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.AdaptiveAvgPool2d(1))\n"
        "        self.head = nn.Linear(8, num_classes)\n"
        "    def forward(self, x):\n"
        "        z = self.body(x).flatten(1)\n"
        "        return (self.head(z), z @ self.unused) if self.training else self.head(z)\n"
    )
    found = [run(make_spec("trades", model="net.py:Net", without=one), output=tmp_path) for one in ([], ["graph"])]
    assert [record.engine.in_force["graph"] for record in found if record.engine] == [True, False]
    assert len(found[0].model_notes) == 2
    assert all(record.engine and record.engine.in_force["fold"] for record in found)
    one, other = (weights(tmp_path, record) for record in found)
    assert all(torch.equal(one[name], other[name]) for name in other)
    assert not one["net.unused"].any()
