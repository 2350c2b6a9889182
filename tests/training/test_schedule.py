"""Schedules against torch's own schedulers, and budgets."""

from fractions import Fraction
from typing import Any

import pytest
import torch
from torch.optim import lr_scheduler

from fatbench.config.request import Request
from fatbench.config.resolve import resolve
from fatbench.runner.setup import set_up
from fatbench.training.schedule import Budget, fraction_of_peak

STEPS, PEAK = 200, 0.3


def _torch_rates(make: object) -> list[float]:
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=PEAK)
    scheduler = make(optimizer)  # type: ignore[operator]
    rates = []
    for _ in range(STEPS):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return rates


@pytest.mark.parametrize(
    ("name", "make"),
    [
        ("piecewise", lambda o: lr_scheduler.MultiStepLR(o, [STEPS // 2, 3 * STEPS // 4])),
        ("cyclic", lambda o: lr_scheduler.CyclicLR(o, 0.0, PEAK, STEPS // 2, STEPS // 2, cycle_momentum=False)),
        ("cosine", lambda o: lr_scheduler.CosineAnnealingLR(o, STEPS)),
        ("constant", lambda o: lr_scheduler.ConstantLR(o, 1.0)),
    ],
)
def test_equals_torchs_scheduler(name: str, make: object) -> None:
    ours = [PEAK * fraction_of_peak(name, step / STEPS) for step in range(STEPS)]  # type: ignore[arg-type]
    assert ours == pytest.approx(_torch_rates(make), abs=1e-9)


@pytest.mark.parametrize(
    ("name", "shape", "make"),
    [
        ("piecewise", {"milestones": (100 / 110,)}, lambda o: lr_scheduler.MultiStepLR(o, [STEPS * 100 // 110 + 1])),
        ("piecewise", {"milestones": (0.25, 0.5, 0.95)}, lambda o: lr_scheduler.MultiStepLR(o, [50, 100, 190])),
        ("cyclic", {"peak": 0.4}, lambda o: lr_scheduler.CyclicLR(o, 0.0, PEAK, 80, 120, cycle_momentum=False)),
    ],
)
def test_equals_torchs_scheduler_at_other_turns_too(name: str, shape: dict[str, object], make: object) -> None:
    ours = [PEAK * fraction_of_peak(name, step / STEPS, **shape) for step in range(STEPS)]  # type: ignore[arg-type]
    assert ours == pytest.approx(_torch_rates(make), abs=1e-9)


@pytest.mark.parametrize("epochs", [(100, 110), (105, 110), (74, 76), (29, 38), (99, 120)])
@pytest.mark.parametrize("batches", [9, 382, 391, 782])
def test_the_rate_drops_with_the_epoch_and_no_step_later(epochs: tuple[int, int], batches: int) -> None:
    at, total = epochs[0] * batches, epochs[1] * batches
    turns = {"milestones": (float(Fraction(*epochs)),)}
    rates = [fraction_of_peak("piecewise", step / total, **turns) for step in (at - 1, at)]  # type: ignore[arg-type]
    assert rates == [1.0, 0.1]


def test_the_usual_turns_are_to_the_bit_what_they_were() -> None:
    for progress in (step / 997 for step in range(997)):
        drops = 1.0 if progress < 0.5 else 0.1 if progress < 0.75 else 0.01
        assert fraction_of_peak("piecewise", progress) == drops
        assert fraction_of_peak("cyclic", progress) == 1.0 - abs(2.0 * progress - 1.0)


def test_onecycle_equals_torchs_up_to_its_last_step() -> None:
    # torch spreads its cycle over STEPS - 1 intervals, we over the whole budget
    rates = _torch_rates(lambda o: lr_scheduler.OneCycleLR(o, PEAK, total_steps=STEPS, cycle_momentum=False))
    ours = [PEAK * fraction_of_peak("onecycle", step / (STEPS - 1)) for step in range(STEPS)]
    warm_up_end = 0.3 * STEPS - 1
    shifted = [PEAK * fraction_of_peak("onecycle", 0.3 * step / warm_up_end) for step in range(int(warm_up_end) + 1)]
    assert shifted == pytest.approx(rates[: len(shifted)], abs=1e-9)
    assert ours[-1] == pytest.approx(rates[-1], abs=1e-9)


def test_progress_stays_below_one_and_bounds_hold() -> None:
    epochs = Budget(steps=10)
    assert [epochs.spent(steps, 1e9) for steps in (9, 10)] == [False, True]
    assert epochs.progress(5, 0.0) == 0.5
    assert epochs.progress(10, 0.0) < 1.0
    timed = Budget(seconds=2.0)
    assert [timed.spent(10**9, seconds) for seconds in (1.99, 2.0)] == [False, True]
    assert timed.progress(0, 1.0) == 0.5
    assert torch.tensor(timed.progress(0, 99.0), dtype=torch.float32) < 1.0


@pytest.mark.parametrize(
    ("flags", "rates"),
    [
        ({"schedule": "piecewise"}, {0.49: 1.0, 0.5: 0.1, 0.75: 0.01}),
        ({"schedule": "piecewise", "milestones": ["0.2", "0.9"]}, {0.19: 1.0, 0.2: 0.1, 0.75: 0.1, 0.9: 0.01}),
        ({"schedule": "cyclic"}, {0.25: 0.5, 0.5: 1.0, 0.75: 0.5}),
        ({"schedule": "cyclic", "peak": "0.4"}, {0.2: 0.5, 0.4: 1.0, 0.7: 0.5}),
        ({"schedule": "onecycle", "peak": "0.5"}, {0.5: 1.0}),
    ],
)
def test_the_rate_is_where_the_spec_says(flags: dict[str, Any], rates: dict[float, float]) -> None:
    (spec,) = resolve(Request(["standard"], settings={"epochs": 100, "lr": 0.3, **flags}), "cpu")
    training = set_up(spec, None, False).training()
    for progress, fraction in rates.items():
        training.counters = (round(progress * 100 * len(training.loader)), 0, 0)
        assert training.status().lr == pytest.approx(0.3 * fraction)
