"""Time of an optimiser step: every method on every engine, each run right after one of its authors' own loop.

Run by `make bench`. What disturbs the machine disturbs both, and their ratio is taken round by round.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from math import ceil
from statistics import median

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from benchmarks.lanes import ENGINES, Lane, NaiveLane, Setting, cifar_shaped, digits, naive_precisions
from benchmarks.table import Row
from fatbench import methods
from fatbench.runner.timing import contend

MODELS = ("small-cnn", "resnet18")
SHORTEST_RUN = 0.3  # seconds
SECONDS, FEWEST, MOST = 5.0, 2, 9  # of rounds for one row: as many as take so long, but no fewer and no more


@dataclass
class Entry:
    """A lane that runs so many batches at a time."""

    lane: Lane
    name: str
    batches: int
    duration: float  # seconds that a run takes, about
    seconds: list[float] = field(default_factory=list)  # per optimiser step, run by run

    @classmethod
    def of(cls, lane: Lane, name: str) -> "Entry":
        seconds = lane.warm_up()
        batches = ceil(SHORTEST_RUN / seconds)
        return cls(lane, name, batches, batches * seconds)

    def run(self) -> None:
        self.seconds.append(self.lane.elapsed(self.batches) / (self.batches * self.lane.updates))


@dataclass
class Arena:
    """A model, a method, and its authors' loop at work: with one or more kinds of arithmetic."""

    setting: Setting
    method: str
    device: str
    loops: list[Entry]

    def speedups(self, of: Entry) -> dict[str, list[float]]:
        """How many times as fast as each loop `of` was, in its own rounds, which were the last."""
        recent = {loop.name: loop.seconds[-len(of.seconds) :] for loop in self.loops}
        return {name: [a / b for a, b in zip(theirs, of.seconds, strict=True)] for name, theirs in recent.items()}

    def row(self, entry: Entry, passes: float, speedups: Mapping[str, Sequence[float]]) -> Row:
        batch_size = self.setting.spec(self.method, "reference fp32", self.device).training.batch_size
        return Row(self.setting.model, self.method, entry.name, batch_size, passes, entry.seconds, speedups)


@pytest.fixture(scope="session")
def settings(tmp_path_factory: pytest.TempPathFactory, pytestconfig: pytest.Config, device: str) -> dict[str, Setting]:
    batch_size = pytestconfig.getoption("--bench-batch") or (16 if device == "cpu" else 128)
    return {"small-cnn": digits(), "resnet18": cifar_shaped(tmp_path_factory.mktemp("data"), batch_size)}


@pytest.fixture(scope="module")
def arena(
    request: pytest.FixtureRequest, settings: dict[str, Setting], device: str, rows: list[Row]
) -> Iterator[Arena]:
    model, method = request.param
    lanes = [NaiveLane(settings[model], method, device, kind) for kind in naive_precisions(method, device)]
    arena = Arena(settings[model], method, device, [Entry.of(lane, lane.name) for lane in lanes])
    yield arena
    for lane, loop in zip(lanes, arena.loops, strict=True):
        rows.append(arena.row(loop, lane.passes, {}))
        lane.close()


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("arena", list(product(MODELS, methods.names())), ids="-".join, indirect=True, scope="module")
def test_update(benchmark: BenchmarkFixture, arena: Arena, engine: str, rows: list[Row]) -> None:
    contender = contend(arena.setting.spec(arena.method, engine, arena.device))
    entry = Entry.of(contender, engine)

    def let_the_loops_run() -> None:
        for loop in arena.loops:
            loop.run()

    rounds = int(SECONDS / sum(one.duration for one in (entry, *arena.loops)))
    benchmark.pedantic(entry.run, setup=let_the_loops_run, rounds=min(max(rounds, FEWEST), MOST))
    speedups = arena.speedups(entry)
    passes = sum(contender.passes.values())
    benchmark.extra_info.update(passes=passes, batches=entry.batches, updates_per_batch=contender.updates)
    benchmark.extra_info.update({f"x {name}": median(ratios) for name, ratios in speedups.items()})
    rows.append(arena.row(entry, passes, speedups))
