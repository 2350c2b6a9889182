"""Has a method become slower? Ratios against the baseline's, with a limit that follows the noise."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import hypot
from typing import Literal

from benchmarks.baseline import Baseline, Ratio

FLOOR = 1.15  # what two runs of the same code differ by at most, from one process to the next
CAP = 1.3  # however noisy the machine: half as slow again must be seen, and be seen as 1.5 +- 10%
SIGMAS = 5.0  # so that 16 lanes stay green together for a thousand runs

Outcome = Literal["ok", "slower", "faster", "new"]


@dataclass(frozen=True)
class Verdict:
    """What became of one lane."""

    lane: str
    now: Ratio
    change: float | None  # times as slow as the baseline
    limit: float
    outcome: Outcome


def judge(now: Mapping[str, Ratio], baseline: Baseline, *, same_machine: bool) -> Iterator[Verdict]:
    """Yield a verdict for every lane; between two machines the limit is the cap."""
    for lane, ratio in now.items():
        known = baseline.lanes.get(lane)
        if known is None:
            yield Verdict(lane, ratio, None, CAP, "new")
            continue
        limit = limit_for(ratio, known) if same_machine else CAP
        change = ratio.value / known.value
        yield Verdict(lane, ratio, change, limit, _outcome(change, limit))


def limit_for(now: Ratio, known: Ratio) -> float:
    """Return the change that is no longer put down to noise."""
    return min(max(FLOOR, 1 + SIGMAS * hypot(now.noise, known.noise)), CAP)


def _outcome(change: float, limit: float) -> Outcome:
    return "slower" if change > limit else "faster" if change < 1 / limit else "ok"
