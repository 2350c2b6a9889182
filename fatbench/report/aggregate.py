"""Row: one configuration, its seeds aggregated."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from fatbench.record import Record, Score
from fatbench.report.configuration import Configuration, names
from fatbench.report.plain import plain
from fatbench.statistics import deviation, mean, wilson

NOISY = "noisy"  # among a row's events: the time of a finished run is not to be relied on


@dataclass(frozen=True)
class Spread:
    """The mean of a measurement over `seeds` runs, and their standard deviation (None for one)."""

    mean: float
    std: float | None
    seeds: int


@dataclass(frozen=True)
class Accuracy(Spread):
    """Mean accuracy over seeds, as fractions.

    The Wilson interval is that of the mean on `images` images, not pooled: every seed sees the same images.
    """

    low: float
    high: float
    images: int
    version: str  # of the attack; "" is its standard


@dataclass(frozen=True)
class Row:
    """One configuration and what its runs came to; times and scores are means over the finished ones."""

    label: str
    method: str
    model: str
    configuration: Configuration
    ids: tuple[str, ...]
    seeds: tuple[int, ...]
    statuses: dict[str, int]  # status -> runs
    events: dict[str, int]  # kind of event -> runs in which it happened; what the status says is left out
    train_seconds: Spread | None
    scores: dict[str, Accuracy]
    speedup: float | None = None  # the reference's training time over this row's

    @property
    def finished(self) -> int:
        """How many of its runs ended as they should."""
        return self.statuses.get("finished", 0)


def aggregate(label: str, configuration: Configuration, records: Sequence[Record]) -> Row:
    """Return the row of `records`, one per seed, in the order of seeds.

    Where no run finished, the scores are those of diverged runs, if they were evaluated: they are results too.
    """
    finished = [record for record in records if record.status == "finished"]
    scored = finished or [record for record in records if record.status == "diverged"]
    found = dict.fromkeys(name for record in scored for name in record.scores)
    method, model = names(configuration)
    return Row(
        label=label,
        method=method,
        model=model,
        configuration=configuration,
        ids=tuple(record.id for record in records),
        seeds=tuple(record.spec.seed for record in records),
        statuses=dict(sorted(Counter(record.status for record in records).items())),
        events=dict(sorted(Counter(kind for record in records for kind in _kinds(record)).items())),
        train_seconds=_spread([record.timing.train for record in finished]),
        scores={name: _accuracy([r.scores[name] for r in scored if name in r.scores]) for name in found},
    )


def _kinds(record: Record) -> set[str]:
    noisy = record.status == "finished" and record.throughput is not None and record.throughput.noisy
    return {plain(event.kind) for event in record.events if event.kind != record.status} | ({NOISY} if noisy else set())


def _spread(values: Sequence[float]) -> Spread | None:
    return Spread(mean(values), deviation(values), len(values)) if values else None


def _accuracy(scores: Sequence[Score]) -> Accuracy:
    shares = [score.accuracy for score in scores]
    images = min(score.total for score in scores)
    centre = min(1.0, mean(shares))
    low, high = wilson(centre * images, images)
    versions = sorted({plain(score.attack.get("version", "standard")) for score in scores})
    return Accuracy(
        mean=centre,
        std=deviation(shares),
        seeds=len(scores),
        low=low,
        high=high,
        images=images,
        version="" if versions == ["standard"] else " / ".join(versions),
    )
