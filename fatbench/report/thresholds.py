"""Limit: how much worse a number may become before a comparison with a baseline fails."""

import math
import re
from dataclasses import dataclass

from fatbench.config.parsing import parse_evaluation
from fatbench.errors import UsageError
from fatbench.report.formats import plain

TIME = "train_seconds"
GRAMMAR = (
    f"{TIME}:+NUMBER or EVALUATION:-NUMBER with % (relative), pp (points of accuracy) or s (of {TIME}),"
    f" as in {TIME}:+10% or autoattack:-1.0pp"
)
_EXPRESSION = re.compile(r"([a-z0-9_-]{1,40}):([+-])([0-9]{1,9}(?:\.[0-9]{1,9})?)(%|pp|s)")
_ROUNDING = 1e-9  # a change of exactly the limit is within it, whatever binary fractions make of it


@dataclass(frozen=True)
class Threshold:
    """The largest change of a metric that is not a failure: a rise of time, or a fall (negative) of an accuracy."""

    metric: str
    amount: float
    unit: str  # "%", "pp" or "s"

    def __str__(self) -> str:
        return f"{self.amount:+g}{self.unit}"

    def change(self, before: float, after: float) -> float:
        """Return how far a metric went, in the unit of the limit; it may be infinite."""
        if self.unit == "s":
            return after - before
        if self.unit == "pp":
            return 100 * (after - before)
        if before:
            return 100 * (after / before - 1)
        return math.inf if after else 0.0

    def broken(self, change: float) -> bool:
        """Return whether such a change is beyond the limit."""
        beyond = change - self.amount if math.copysign(1, self.amount) > 0 else self.amount - change
        return beyond > _ROUNDING * max(1.0, abs(self.amount))


def parse_threshold(text: str) -> Threshold:
    """Return the limit in "train_seconds:+10%" or "autoattack:-1.0pp".

    Raises:
        UsageError: it does not look like that; the line has the grammar.
    """
    written = text.replace(" ", "").replace("\N{MINUS SIGN}", "-").lower()
    match = _EXPRESSION.fullmatch(written)
    if match is None:
        raise UsageError(f"--fail-if takes {GRAMMAR}; not '{plain(text, 60)}'")
    metric, sign, number, unit = match.groups()
    if metric != TIME:
        try:
            parse_evaluation(metric)
        except ValueError as error:
            raise UsageError(f"--fail-if '{plain(text, 60)}': {error}; or {TIME}") from None
    if unit == ("pp" if metric == TIME else "s"):
        raise UsageError(f"--fail-if '{plain(text, 60)}': {metric} has no unit '{unit}'; it takes {GRAMMAR}")
    worse = "+" if metric == TIME else "-"
    if sign != worse:
        direction = "rising" if metric == TIME else "falling"
        meant = f"{metric}:{worse}{number}{unit}"
        raise UsageError(f"--fail-if '{plain(text, 60)}': {metric} gets worse by {direction}; write {meant}")
    if unit == "pp" and float(number) > 100:
        raise UsageError(f"--fail-if '{plain(text, 60)}': an accuracy has 100 points")
    return Threshold(metric, float(f"{sign}{number}"), unit)
