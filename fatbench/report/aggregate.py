"""Row: one configuration, its seeds aggregated."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal

from fatbench.record import Record
from fatbench.record.parts import Score
from fatbench.report import validity
from fatbench.report.configuration import Configuration, names
from fatbench.report.formats import plain
from fatbench.report.run import Run, in_words
from fatbench.statistics import deviation, mean, student, wilson


@dataclass(frozen=True)
class Spread:
    """The mean of a measurement over `seeds` runs, and their standard deviation (None for one)."""

    mean: float
    std: float | None
    seeds: int


@dataclass(frozen=True)
class Accuracy(Spread):
    """Mean accuracy over seeds, as fractions, and its 95% interval.

    "wilson", of one seed: where the accuracy of this model on all such images lies. "t", of several: where the mean
    over all seeds on these images lies. Seeds see the same images, so their counts cannot be pooled.
    """

    interval: Literal["wilson", "t"]
    low: float
    high: float
    images: int
    most_images: int  # of the seed that saw the most; evaluations may stop once they are precise enough
    version: str  # of the attack; "" is its standard, "standard, fast" that of the fast engine


@dataclass(frozen=True)
class Row:
    """One configuration and what its runs came to; times and scores are means over the finished ones."""

    label: str
    method: str
    model: str
    configuration: Configuration
    runs: tuple[Run, ...] = field(compare=False, repr=False)
    ids: tuple[str, ...]
    seeds: tuple[int, ...]
    statuses: dict[str, int]  # status -> runs
    events: dict[str, int]  # kind of event -> runs in which it happened; what the status says is left out
    findings: dict[str, int]  # reason not to rely on the scores -> runs
    selections: dict[str, int]  # which weights were scored, where not the last -> runs
    train_seconds: Spread | None
    scores: dict[str, Accuracy]
    speedup: float | None = None  # the reference's training time over this row's
    best: bool = False  # its strongest score is higher than every other row's: not by chance, nor of one seed
    pareto: bool = False  # no row is at least as fast and as robust, and more of either

    @property
    def finished(self) -> int:
        """How many of its runs ended as they should."""
        return self.statuses.get("finished", 0)


def aggregate(label: str, configuration: Configuration, runs: Sequence[Run]) -> Row:
    """Return the row of `runs`, one per seed, in the order of seeds.

    Where no run finished, the scores are those of diverged runs, if they were evaluated: they are results too.
    """
    records = [run.record for run in runs]
    finished = [run.record for run in runs if run.finished]
    scored = finished or [record for record in records if record.status == "diverged"]
    found = dict.fromkeys(name for record in scored for name in record.scores)
    method, model = names(configuration)
    timed = [record.timing.train for record in finished if record.spec.train]
    return Row(
        label=label,
        method=method,
        model=model,
        configuration=configuration,
        runs=tuple(runs),
        ids=tuple(record.id for record in records),
        seeds=tuple(record.spec.seed for record in records),
        statuses=dict(sorted(Counter(run.status for run in runs).items())),
        events=_count(records, validity.events),
        findings=_count(records, validity.findings),
        selections=_count(records, validity.selection),
        train_seconds=Spread(mean(timed), deviation(timed), len(timed)) if timed else None,
        scores={name: _accuracy([record.scores[name] for record in scored if name in record.scores]) for name in found},
    )


def seed_rows(row: Row) -> list[Row]:
    """Return a row for each of the seeds of `row`."""
    return [aggregate(f"· seed {run.record.spec.seed}", row.configuration, [run]) for run in row.runs]


def status(row: Row) -> str:
    """Return how the runs of a row ended, as "2 of 3 seeds valid, 1 diverged", and what else to know of them."""
    runs = len(row.seeds)
    ends = [] if runs == 1 or row.finished == runs else [f"{row.finished} of {runs} seeds valid"]
    kinds = {in_words(kind): n for kind, n in row.statuses.items() if kind != "finished"}
    ends += [kind if runs == 1 else f"{n} {kind}" for kind, n in kinds.items()]
    events = [kind if runs == 1 else f"{count} of {runs} {kind}" for kind, count in row.events.items()]
    rest = (row.findings | row.selections).items()
    return ", ".join([*ends, *events, *(kind if n == runs else f"{kind} ({n} of {runs})" for kind, n in rest)])


def _count(records: Sequence[Record], look: Callable[[Record], set[str]]) -> dict[str, int]:
    return dict(sorted(Counter(one for record in records for one in look(record)).items()))


def _accuracy(scores: Sequence[Score]) -> Accuracy:
    shares = [score.accuracy for score in scores]
    low, high = _interval(scores, shares)
    versions = sorted({plain(score.attack.get("version", "standard")) for score in scores})
    return Accuracy(
        mean=min(1.0, mean(shares)),
        std=deviation(shares),
        seeds=len(scores),
        interval="wilson" if len(scores) == 1 else "t",
        low=low,
        high=high,
        images=min(score.total for score in scores),
        most_images=max(score.total for score in scores),
        version="" if versions == ["standard"] else " / ".join(versions),
    )


def _interval(scores: Sequence[Score], shares: Sequence[float]) -> tuple[float, float]:
    if len(scores) == 1:
        return wilson(scores[0].correct, scores[0].total)
    low, high = student(shares, least=1 / min(score.total for score in scores))  # seeds differ by whole images
    return max(0.0, low), min(1.0, high)
