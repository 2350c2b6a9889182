"""Methods' times in units of the calibration kernel.

Absolute times say little: machines differ, and are busy. So every method's batches alternate with the fixed kernel,
and what counts is their ratio, the median over many rounds. On a CPU, processor time is counted rather than time on
the wall, so that waiting for a busy core costs nothing.
"""

import gc
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from math import ceil, sqrt
from statistics import median

import torch

from benchmarks.baseline import Ratio
from benchmarks.calibration import Kernel
from benchmarks.lanes import digits
from fatbench import methods
from fatbench.runner.timing import Contender, contend
from fatbench.training.clock import synchronize

ENGINES = ("reference fp32", "fast fp32")  # what is cheap everywhere
FEWEST_ROUNDS = 7
_SHORTEST = 0.02  # seconds of one measurement

Clock = Callable[[], float]


def lane_names() -> list[str]:
    """Return the names of all lanes: "trades, fast fp32"."""
    return [f"{method}, {engine}" for method in methods.names() for engine in ENGINES]


def build(names: Sequence[str], device: torch.device) -> dict[str, Contender]:
    """Return the trainings that the lanes `names` time, set up afresh, on the fixed small model."""
    each = {name: name.split(", ") for name in names}
    return {name: contend(digits().spec(method, engine, device.type)) for name, (method, engine) in each.items()}


def clock_for(device: torch.device) -> Clock:
    """Return the clock to time by: of the processor where it does the work."""
    return time.process_time if device.type == "cpu" else time.perf_counter


def measure(contenders: Mapping[str, Contender], device: torch.device, seconds: float) -> dict[str, Ratio]:
    """Return the ratio of every contender's update to the kernel, from rounds that together take about `seconds`.

    Every measurement stands between two of the kernel, and is divided by their mean: a disturbance that lasts longer is
    in all three, and one that is shorter spoils one round of many.
    """
    now, kernel = clock_for(device), Kernel(device)
    batches = {name: ceil(_SHORTEST / one.warm_up()) for name, one in contenders.items()}
    _time(kernel, 3, device, now)
    repeats = ceil(_SHORTEST / _time(kernel, 1, device, now))
    ratios: dict[str, list[float]] = {name: [] for name in contenders}
    began, rounds = time.perf_counter(), 0
    with _no_collector():
        while rounds < FEWEST_ROUNDS or time.perf_counter() - began < seconds:
            rounds += 1
            before = _time(kernel, repeats, device, now)
            for name, one in contenders.items():
                update = one.elapsed(batches[name], now) / (batches[name] * one.updates)
                after = _time(kernel, repeats, device, now)
                ratios[name].append(update / ((before + after) / 2))
                before = after
    return {name: _summary(values) for name, values in ratios.items()}


def _time(kernel: Kernel, repeats: int, device: torch.device, now: Clock) -> float:
    """Return the time of one kernel, the mean of so many."""
    synchronize(device)
    started = now()
    for _ in range(repeats):
        kernel()
    synchronize(device)
    return (now() - started) / repeats


def _summary(values: Sequence[float]) -> Ratio:
    """Return the median with its relative standard error, from the median deviation: both deaf to spoilt rounds."""
    centre = median(values)
    deviation = 1.4826 * median(abs(value - centre) for value in values)  # the standard deviation, were it normal
    return Ratio(value=centre, noise=1.2533 * deviation / sqrt(len(values)) / centre)


@contextmanager
def _no_collector() -> Iterator[None]:
    """Keep Python from collecting garbage in the midst of a measurement."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
