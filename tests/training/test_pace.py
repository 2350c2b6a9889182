"""The clock, and budgets of time, by clocks that a test moves: phases, when a run ends, and its learning rate."""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import pytest
import torch
from torch import nn

from fatbench import methods
from fatbench.data.loader import Loader
from fatbench.interface import Batch, Context, Losses
from fatbench.threat import Linf
from fatbench.training import clock
from fatbench.training.clock import Clock
from fatbench.training.engine.capture import CapturedBatch
from fatbench.training.engine.throttle import Throttle
from fatbench.training.loop import Training, TrainStatus
from fatbench.training.schedule import Budget

from .engine import CPU, Trial, make_spec, make_trial

BUDGET, PEAK = 10.0, 0.125
Moment = tuple[float, float, float]  # the time at which a step begins, progress and learning rate that it goes by


def timed_trial(
    engine: str, method: str, cost: Callable[[int], float]
) -> tuple[Trial, list[Moment], list[TrainStatus]]:
    """A run of `BUDGET` seconds by a clock that only optimiser steps move, each by its cost; and its last pulse."""
    now = [0.0]
    trial = make_trial(make_spec(method, engine=engine, time_budget=f"{BUDGET:g}s", schedule="cyclic", batch_size=8))
    trial.context = replace(trial.context, clock=Clock(CPU, now=lambda: now[0]))
    trial.training = training = trial.context.training()
    moments: list[Moment] = []
    (group,) = training.optimizer.param_groups

    def before(*_: object) -> None:
        moments.append((now[0], float(training.ctx.progress), float(group["lr"])))

    def after(*_: object) -> None:
        now[0] += cost(len(moments))

    training.optimizer.register_step_pre_hook(before)
    training.optimizer.register_step_post_hook(after)
    return trial, moments, []


def run(trial: Trial, pulses: list[TrainStatus]) -> TrainStatus:
    assert trial.training.run(lambda _: None, lambda status: bool(pulses.append(status))) == "time"
    return pulses[-1]


def triangle(progress: float) -> float:
    return PEAK * (1 - abs(2 * progress - 1))


COSTS: dict[str, Callable[[int], float]] = {
    "even": lambda _: 0.31,
    "slower midway": lambda step: 0.17 if step < 25 else 0.73,
    "faster midway": lambda step: 0.73 if step < 7 else 0.17,
    "one stall": lambda step: 2.9 if step == 20 else 0.17,
}
every_cost = pytest.mark.parametrize("cost", COSTS)


@every_cost
@pytest.mark.parametrize("method", ["fgsm", "free-at"])
@pytest.mark.parametrize("engine", ["reference", "fast"])
def test_a_run_ends_with_the_batch_that_ends_nearest_to_the_deadline_and_every_step_knows_the_time(
    engine: str, method: str, cost: str
) -> None:
    trial, moments, pulses = timed_trial(engine, method, COSTS[cost])
    last = run(trial, pulses)
    (began, *_), step = moments[-1], COSTS[cost](len(moments))
    assert last.train_seconds == pytest.approx(began + step)
    batch = step * {"fgsm": 1, "free-at": 3}[method]  # which may be left after any of its steps
    assert BUDGET - batch / 2 - 1e-9 <= last.train_seconds <= BUDGET + min(batch / 2, step) + 1e-9
    assert last.steps == len(moments)
    for time, progress, rate in moments:
        assert progress == pytest.approx(time / BUDGET, abs=1e-6)
        assert rate == pytest.approx(triangle(time / BUDGET), abs=1e-6)


@every_cost
def test_replayed_batches_go_by_the_time_at_their_beginning(cost: str) -> None:
    """Three steps in one replay: they end within half a batch of the deadline; in between time is taken to be even."""
    trial, moments, pulses = timed_trial("fast", "free-at", COSTS[cost])
    training = trial.training
    training.captured = CapturedBatch(
        training.work, training.loader.plan(0), 3, changed=training.state, record=lambda work, _: work
    )
    last = run(trial, pulses)
    assert abs(last.train_seconds - BUDGET) <= 3 * COSTS[cost](len(moments)) / 2 + 1e-9
    assert last.steps == len(moments) == 3 * last.batches
    for index, (time, progress, rate) in enumerate(moments):
        start, *_ = moments[index - index % 3]
        pace = start / max(index - index % 3, 1)
        assert progress == pytest.approx(min((start + index % 3 * pace) / BUDGET, 1.0), abs=1e-6)
        assert rate == pytest.approx(triangle(progress), abs=1e-6)
        assert time < BUDGET or index % 3


@pytest.mark.parametrize(
    ("seconds", "batches"), [(20.0, 1), (16.0, 1), (7.0, 1), (6.5, 2), (4.1, 2), (4.0, 3), (3.9, 3)]
)
def test_a_run_of_few_long_batches_ends_nearest_after_one_at_least(seconds: float, batches: int) -> None:
    trial, moments, pulses = timed_trial("reference", "fgsm", lambda _: seconds)
    last = run(trial, pulses)
    assert (last.batches, last.train_seconds, len(moments)) == (batches, batches * seconds, batches)
    assert last.epoch == 1


# A device that works while the host goes on


@dataclass
class Device:
    """A simulated GPU, and its pacer: batches are queued and take their time; the host may wait for them."""

    seconds: Callable[[int], float]  # of a batch, by its number
    host: float = 0.001  # seconds to queue one
    ahead: int = 2  # batches that the pacer lets be unfinished
    now: float = 0.0  # on the host
    free: float = 0.0  # when all that is queued will be done
    begun: list[float] = field(default_factory=list)  # when the device began each batch
    queued: deque[float] = field(default_factory=deque)  # when those that may be unfinished will be done

    def queue(self, number: int) -> None:
        self.now += self.host
        self.begun.append(max(self.free, self.now))
        self.free = self.begun[-1] + self.seconds(number)

    def wait(self, *_: object) -> None:
        self.now = max(self.now, self.free)

    @property
    def in_flight(self) -> int:
        return len(self.queued)

    def batch_queued(self) -> None:
        self.queued.append(self.free)
        while len(self.queued) > self.ahead:
            self.now = max(self.now, self.queued.popleft())

    def reset(self) -> None:
        self.queued.clear()


def simulated(device: Device, monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Train for `BUDGET` seconds of the device, in epochs of 30 batches; the progress that every batch was told."""
    monkeypatch.setattr(clock, "synchronize", device.wait)
    told = []

    def method(model: nn.Module, batch: Batch, ctx: Context) -> Losses:
        device.queue(int(ctx.step))
        told.append(float(ctx.progress))
        yield model(batch.x.flatten(1)).square().mean()

    model = nn.Linear(4, 2)
    training = Training(
        model=model,
        method=methods.Method(methods.describe("standard"), {}, method),
        loader=Loader(
            torch.zeros(120, 1, 2, 2, dtype=torch.uint8), torch.zeros(120), batch_size=4, seed=0, pad=0, flip=False
        ),
        ctx=Context(Linf(0.1), 120, torch.tensor(0), torch.tensor(0.0)),
        optimizer=torch.optim.SGD(model.parameters(), lr=PEAK),
        schedule="cyclic",
        peak_lr=PEAK,
        budget=Budget(seconds=BUDGET),
        clock=Clock(CPU, now=lambda: device.now),
        throttle=device,  # type: ignore[arg-type]
    )
    assert training.run(lambda _: None, lambda _: False) == "time"
    assert training.steps == len(told) == len(device.begun)
    return told


@pytest.mark.parametrize("host", [0.0, 0.001, 0.2], ids=["quick host", "host", "slow host"])
@pytest.mark.parametrize("seconds", [0.04, 0.1, 0.37, 0.7])
def test_with_batches_in_flight_a_run_ends_where_it_is_nearest_to_the_deadline(
    seconds: float, host: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    device = Device(lambda _: seconds, host)
    simulated(device, monkeypatch)
    step = max(seconds, host)
    # A device that waits for the host has finished all that is taken to be in flight.
    early = 0.5 if seconds > host else 3
    assert BUDGET - 1.05 * early * step <= device.free <= BUDGET + 0.55 * step


@pytest.mark.parametrize("seconds", [0.04, 0.1, 0.37])
def test_with_batches_in_flight_every_batch_is_told_when_the_device_will_begin_it(
    seconds: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    device = Device(lambda _: seconds)
    told = simulated(device, monkeypatch)
    for progress, began in list(zip(told, device.begun, strict=True))[4:]:  # before, nothing has been finished
        assert progress == pytest.approx(began / BUDGET, abs=0.25 * seconds / BUDGET)


@pytest.mark.parametrize("later", [0.03, 0.25])
def test_the_schedule_runs_through_its_range_when_batches_change_their_pace(
    later: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    device = Device(lambda number: 0.1 if number < 50 else later)
    told = simulated(device, monkeypatch)
    assert BUDGET - 2 * 0.25 <= device.free <= BUDGET + 2 * 0.25
    assert told[-1] > 1 - 3 * 0.25 / BUDGET
    for progress, began in list(zip(told, device.begun, strict=True))[4:]:
        assert progress == pytest.approx(began / BUDGET, abs=2 * 0.25 / BUDGET)  # two batches of another pace


def test_on_a_cpu_the_pacer_has_nothing_to_do() -> None:
    throttle = Throttle(CPU)
    for _ in range(5):
        throttle.batch_queued()
        assert throttle.in_flight == 0
    throttle.reset()
    assert throttle.in_flight == 0


def test_an_inner_phase_pauses_the_outer_one() -> None:
    now = [0.0]
    clock = Clock(CPU, now=lambda: now[0])
    with clock.phase("train"):
        now[0] += 2
        assert clock.seconds("train") == 2
        with clock.phase("probe"):
            now[0] += 5
        now[0] += 1
    now[0] += 7  # outside every phase
    assert (clock.seconds("train"), clock.seconds("probe")) == (3, 5)


def test_a_phase_left_by_an_exception_is_charged_and_closed() -> None:
    now = [0.0]
    clock = Clock(CPU, now=lambda: now[0])
    try:
        with clock.phase("train"):
            now[0] += 2
            raise KeyboardInterrupt
    except KeyboardInterrupt:
        now[0] += 9
    assert clock.seconds("train") == 2
