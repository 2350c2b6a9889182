"""Images per second, and whether the machine let the run go at an even pace."""

import statistics
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple

from fatbench.record.parts import Throughput

NOISY_SPREAD = 0.10  # of the median
_BLOCK_SECONDS = 0.25  # a shorter one says more about the scheduler of the operating system than about the run
_FEWEST = 3  # blocks that say something about their spread


class Mark(NamedTuple):
    """Where training stood: optimiser steps, and seconds on a clock that waits for the device."""

    steps: int
    seconds: float


def throughput(marks: Sequence[Mark], images_per_step: int, *, throttled: bool = False) -> Throughput | None:
    """Return the speed between the marks, of which the first is the start; None if they say nothing.

    The marks are merged into blocks of a quarter of a second at least, and the median block is the run's speed. The
    first block is left out where there are others: it allocates the optimiser's state and finds caches and clocks
    cold, which is no contention, and in a short run it would be a good part of the evidence.

    The spread is that between the tenth and the ninetieth percentile of the blocks, over their median. So one hiccup in
    a hundred blocks, or nine, goes unseen, as it should: it costs the run less than the 10% from which it is `noisy`.
    A neighbour who takes more than a tenth of the machine for more than a tenth of the run is seen. The fewer the
    blocks, the more a single one weighs, by linear interpolation. A neighbour who never pauses is not seen: there is
    nothing to compare with. With fewer than three blocks `noisy` is None, which is not quiet but unknown.

    Args:
        marks: in the order in which they were taken.
        images_per_step: images in a batch.
        throttled: the device is known to have been slowed down, which makes the run noisy however even its pace.
    """
    rates = [images_per_step * steps / seconds for steps, seconds in _blocks(marks)]
    rates = rates[1:] or rates
    if not rates:
        return None
    spread = _spread(rates) if len(rates) >= _FEWEST else None
    noisy = True if throttled else None if spread is None else spread > NOISY_SPREAD
    return Throughput(images_per_second=statistics.median(rates), blocks=len(rates), spread=spread, noisy=noisy)


def _blocks(marks: Sequence[Mark]) -> Iterator[Mark]:
    """Yield the steps and seconds of each block; what is left at the end belongs to the last one."""
    ends = list(marks[:1])
    for mark in marks[1:]:
        if mark.seconds - ends[-1].seconds >= _BLOCK_SECONDS:
            ends.append(mark)
    if len(ends) > 1:
        ends[-1] = marks[-1]
    elif marks and marks[-1].seconds > marks[0].seconds:
        ends.append(marks[-1])
    for start, end in pairwise(ends):
        yield Mark(end.steps - start.steps, end.seconds - start.seconds)


def _spread(rates: Sequence[float]) -> float:
    deciles = statistics.quantiles(rates, n=10, method="inclusive")
    return (deciles[-1] - deciles[0]) / statistics.median(rates)
