"""A training curve in one line of text."""

from collections.abc import Sequence

_LEVELS = "▁▂▃▄▅▆▇█"


def sparkline(times: Sequence[float], shares: Sequence[float], width: int = 32) -> str:
    """Return `shares` (0 to 1) over `times` (ascending) as at most `width` bars, evenly spaced in time.

    Each bar is the last value known at its time, so that a plateau is as long as it lasted.
    """
    if not times:
        return ""
    start, end = times[0], times[-1]
    if end <= start:
        return _bar(shares[-1])
    bars, known = [], 0
    for column in range(width):
        now = start + (end - start) * column / (width - 1)
        while known + 1 < len(times) and times[known + 1] <= now * (1 + 1e-9):
            known += 1
        bars.append(_bar(shares[known]))
    return "".join(bars)


def _bar(share: float) -> str:
    return _LEVELS[min(len(_LEVELS) - 1, max(0, int(share * len(_LEVELS))))]
