"""Timing: honest intervals, fair turns, and times of what was asked."""

from math import ceil
from pathlib import Path

import pytest
import torch
from scipy.stats import binom

from fatbench.config.request import Request
from fatbench.config.resolve import resolve
from fatbench.config.spec import RunSpec
from fatbench.runner.timing import SHORTEST_RUN, Contender, StepTime, contend, estimate, time_methods

from .steady import let_steps_take


def specs(*methods: str) -> list[RunSpec]:
    return resolve(Request(methods, settings={"epochs": 10**6}), device="cpu")


@pytest.mark.parametrize(("n", "rank"), [(1, 1), (2, 1), (5, 1), (6, 1), (9, 2), (10, 2), (15, 4), (20, 6), (25, 8)])
def test_the_interval_of_the_median_is_by_order_statistics(n: int, rank: int) -> None:
    shuffled = torch.randperm(n).tolist()
    found = estimate([float(value + 1) for value in shuffled])
    assert (found.low, found.median, found.high) == (rank, (n + 1) / 2, n + 1 - rank)
    assert found.confidence == pytest.approx(1 - 2 * binom.cdf(rank - 1, n, 0.5), abs=1e-12)
    assert n < 6 or 1 - 2 * binom.cdf(rank, n, 0.5) < 0.95 <= found.confidence  # the next inwards holds too little


def test_the_interval_holds_the_median_as_often_as_it_says() -> None:
    draws = torch.distributions.Exponential(1.0).sample((2000, 9)).tolist()
    found = [estimate(draw) for draw in draws]
    held = sum(one.low <= 0.6931 <= one.high for one in found) / len(found)
    assert held == pytest.approx(found[0].confidence, abs=0.02)


def test_ratios_are_taken_run_by_run() -> None:
    (spec,) = specs("standard")
    slow, fast = (StepTime(spec, {}, 1, 1, seconds) for seconds in ((2.0, 40.0, 6.0), (1.0, 10.0, 2.0)))
    ratio = slow.ratio_to(fast)
    assert (ratio.low, ratio.median, ratio.high) == (2.0, 3.0, 4.0)


def test_methods_take_turns_and_the_first_is_the_last_in_the_next_round() -> None:
    def order(interleave: bool) -> list[str]:
        said: list[str] = []
        time_methods(specs("standard", "fgsm"), runs=2, batches=1, interleave=interleave, watch=said.append)
        return [line.partition(": ")[2] for line in said if line.startswith("run ")]

    assert order(interleave=True) == ["standard", "fgsm", "fgsm", "standard"]
    assert order(interleave=False) == ["standard", "standard", "fgsm", "fgsm"]


@pytest.fixture
def quarter_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each optimiser step takes a quarter of a second."""
    now, elapsed = let_steps_take(monkeypatch, seconds=0.25), Contender.elapsed
    monkeypatch.setattr(Contender, "elapsed", lambda contender, batches: elapsed(contender, batches, now))


@pytest.mark.usefixtures("quarter_seconds")
def test_steps_are_timed_and_their_passes_counted(tmp_path: Path) -> None:
    before = torch.get_num_threads()
    twice = tmp_path / "twice.py"
    twice.write_text(
        "import torch.nn.functional as F\n\n\n"
        "def twice(model, batch, ctx):\n"
        "    for _ in range(2):\n"
        "        yield F.cross_entropy(model(batch.x), batch.y)\n"
    )
    found = time_methods(specs("standard", str(twice), "bs-trades"), runs=3, batches=2)
    assert torch.get_num_threads() == before
    assert [sum(one.passes.values()) for one in found] == [3, 3, 10]
    assert [one.seconds for one in found] == [(0.25, 0.25, 0.25)] * 3
    assert [one.images_per_second for one in found] == [128 / 0.25] * 3
    assert found[1].ratio_to(found[0]).median == 1.0


@pytest.mark.usefixtures("quarter_seconds")
def test_a_run_is_as_long_as_it_must_be() -> None:
    (one,) = time_methods(specs("standard"), runs=1)
    assert one.batches == ceil(SHORTEST_RUN / 0.25)


def test_seconds_are_those_of_the_machine(tmp_path: Path) -> None:
    nap = tmp_path / "nap.py"
    nap.write_text(
        "import time\n\nimport torch.nn.functional as F\n\n\n"
        "def nap(model, batch, ctx):\n"
        "    time.sleep(0.2)\n"
        "    yield F.cross_entropy(model(batch.x), batch.y)\n"
    )
    (napping,) = time_methods(specs(str(nap)), runs=1, batches=2)
    assert napping.estimate.median >= 0.2  # a loaded machine takes longer


def test_a_contender_trains_on_as_many_batches_as_it_is_told() -> None:
    (spec,) = specs("fgsm")
    contender = contend(spec)
    weights = [weight.clone() for weight in contender.training.model.parameters()]
    readings = iter([3.0, 10.0])
    assert contender.elapsed(2, now=lambda: next(readings)) == 7.0
    assert contender.training.batches == contender.training.steps == 2
    contender.elapsed(1)
    moved = zip(weights, contender.training.model.parameters(), strict=True)
    assert any(not torch.equal(before, after) for before, after in moved)
