"""Write into docs/trust.md how often verdicts of `compare --paired` are wrong, by simulation. By `make calibration`.

Accuracies come out of a probit model: whether an image stands is decided by how hard it is for every method, how hard
for this one, the seed, and chance. The figures in use are like those of the committed records.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations, product
from pathlib import Path
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from fatbench.report.pairs import SIGNIFICANT
from fatbench.report.seed_variance import moderated, observe
from fatbench.report.significance import difference, holm

DOCUMENT = Path(__file__).parent.parent / "docs" / "trust.md"
BEGIN, END = "<!-- calibration: written by `make calibration` -->\n", "<!-- /calibration -->"
ACCURACY = 0.45
SEVERAL_IMAGES, ONE_METHOD = 1.5, 0.5  # standard deviations of difficulty; that of chance is 1
SPREADS = {"even": (1.0,), "uneven": (0.5, 1.0, 4.0, 6.0)}  # points of accuracy between seeds, row after row
DIFFERENCES = 0.03, 0.05, 0.10
ROWS, SEEDS, IMAGES = (2, 10, 25), (3, 5), (200, 1_000, 10_000)
TABLES = {2: 1_000, 10: 300, 25: 100}


@dataclass
class Tally:
    """What became of the pairs of many tables."""

    tables: int = 0
    pairs: int = 0
    held: int = 0  # intervals that hold the true difference
    false_alarms: int = 0  # tables in which rows that are equal were told apart

    def add(self, differences: Sequence[float], found: Sequence[tuple[float, float, float]]) -> list[bool]:
        """Count one table: true differences, and low, high and adjusted p. Return which pairs were told apart."""
        told = [p < SIGNIFICANT for _, _, p in found]
        self.tables += 1
        self.pairs += len(found)
        self.held += sum(low <= true <= high for true, (low, high, _) in zip(differences, found, strict=True))
        self.false_alarms += any(one for one, true in zip(told, differences, strict=True) if true == 0)
        return told


def outcomes(
    accuracies: Sequence[float], spreads: Sequence[float], seeds: int, images: int, draw: np.random.Generator
) -> NDArray[np.bool_]:
    """Return (rows, seeds, images) whether each stands; `spreads` are standard deviations between seeds, in points."""
    scale = math.sqrt(SEVERAL_IMAGES**2 + ONE_METHOD**2 + 1)
    between = np.array(spreads) / 100 * scale * math.sqrt(2 * math.pi)
    centres = np.array([NormalDist().inv_cdf(one) for one in accuracies]) * np.sqrt(scale**2 + between**2)
    rows = len(accuracies)
    each = centres[:, None] + draw.normal(0, SEVERAL_IMAGES, images) + draw.normal(0, ONE_METHOD, (rows, images))
    whole = between[:, None, None] * draw.standard_normal((rows, seeds, 1))
    found: NDArray[np.bool_] = each[:, None] + whole + draw.standard_normal((rows, seeds, images)) > 0
    return found


def compared(table: NDArray[np.bool_]) -> list[tuple[float, float, float]]:
    """Return low, high and adjusted p of every pair of a table, as `compare --paired` does."""
    variances = moderated([observe(row) for row in table])
    pairs = combinations(range(len(table)), 2)
    found = [difference(table[i], table[j], variances and (variances[i], variances[j])) for i, j in pairs]
    adjusted = holm([one.p for one in found])
    return [(one.low, one.high, p) for one, p in zip(found, adjusted, strict=True)]


def simulate(
    accuracies: Sequence[float], spreads: Sequence[float], seeds: int, images: int, tables: int
) -> tuple[Tally, list[float]]:
    """Return the tally of so many tables, and how often each pair was told apart."""
    draw = np.random.default_rng(0)
    tally, told = Tally(), np.zeros(len(accuracies) * (len(accuracies) - 1) // 2)
    true = [a - b for a, b in combinations(accuracies, 2)]
    for _ in range(tables):
        told += tally.add(true, compared(outcomes(accuracies, spreads, seeds, images, draw)))
    return tally, list(told / tables)


def lines() -> Iterator[str]:
    """Return the table, a line per kind of table."""
    points = " | ".join(f"told: {100 * one:.0f} points" for one in DIFFERENCES)
    yield f"| rows | seeds | n | seeds vary | tables | false alarms, % of tables | intervals that hold, % | {points} |"
    yield f"| ---: | ---: | ---: | :--- | ---: | ---: | ---: |{' ---: |' * len(DIFFERENCES)}"
    for rows, seeds, images, kind in product(ROWS, SEEDS, IMAGES, SPREADS):
        spreads = [SPREADS[kind][k % len(SPREADS[kind])] for k in range(rows)]
        if rows == 2 and kind == "uneven":
            spreads = [1.0, 4.0]
        equal, _ = simulate([ACCURACY] * rows, spreads, seeds, images, TABLES[rows])
        power = []
        for one in DIFFERENCES:  # the first row is the better one
            unequal = [ACCURACY + one] + [ACCURACY] * (rows - 1)
            _, told = simulate(unequal, spreads, seeds, images, max(50, TABLES[rows] // 4))
            power.append(100 * sum(told[: rows - 1]) / (rows - 1))
        alarms = 100 * equal.false_alarms / equal.tables
        figures = [f"{alarms:.1f}", f"{100 * equal.held / equal.pairs:.1f}", *(f"{one:.0f}%" for one in power)]
        print(rows, seeds, images, kind, *figures, flush=True)
        yield f"| {rows} | {seeds} | {images:,} | {kind} | {equal.tables:,} | {' | '.join(figures)} |"


def main() -> None:
    """Replace what stands between the markers."""
    table = "\n".join(lines())
    before, rest = DOCUMENT.read_text(encoding="utf-8").split(BEGIN)
    DOCUMENT.write_text(f"{before}{BEGIN}\n{table}\n\n{END}{rest.split(END)[1]}", encoding="utf-8")


if __name__ == "__main__":
    main()
