"""Setting: what runs must share for their numbers to be comparable."""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from fractions import Fraction

from fatbench.config.spec import short_name
from fatbench.record import Record

_UNKNOWN_AT_FIRST = ("data_sha256", "subset", "device", "threads", "tf32")  # None until the run has got that far


@dataclass(frozen=True)
class Setting:
    """The protocol, data, threat model, budget and machine of a group of runs; None is not (yet) known, or no limit."""

    protocol: int
    dataset: str
    data_sha256: str | None
    subset: bool | None  # trained on part of the data: no result to cite
    limit_train: int | None
    norm: str
    eps: str
    budget: str
    epochs: int | None
    budget_seconds: float | None
    batch_size: int | None  # None, as the next: trained elsewhere
    precision: str | None
    engine: str | None
    device_type: str
    device: str | None
    threads: int | None  # on a CPU, where they decide the times
    tf32: bool | None

    @property
    def trained(self) -> bool:
        """Whether the weights were trained here, in a known time."""
        return self.epochs is not None or self.budget_seconds is not None

    @property
    def order(self) -> tuple[Hashable, ...]:
        """A sort key: alphabetical, then from small to large."""
        size = (self.epochs or 0, self.budget_seconds or 0.0, self.limit_train or 0, self.threads or 0, self.protocol)
        eps = float(Fraction(self.eps))
        how = (self.batch_size or 0, self.precision or "", self.engine or "", self.device or "")
        return (self.dataset, self.norm, eps, *size, *how, repr(self))


def settings_of(records: Sequence[Record]) -> list[Setting]:
    """Return the setting of each record.

    A run that stopped before it knew its data or machine takes what it lacks from the one setting that fits it, if
    exactly one does: it belongs to the row of its other seeds.
    """
    found = [_setting(record) for record in records]
    complete = {one for one in found if one.data_sha256 is not None and one.device is not None}
    adopted = {one: _adopt(one, complete) for one in set(found) - complete}
    return [adopted.get(one, one) for one in found]


def _setting(record: Record) -> Setting:
    spec, data, machine = record.spec, record.data, record.environment
    device_type = spec.device.partition(":")[0]
    train = spec.train
    threads = machine.cpu_threads if machine else spec.threads
    return Setting(
        protocol=record.protocol,
        dataset=short_name(spec.dataset),
        data_sha256=data.sha256 if data else None,
        subset=True if train and train.limit_train else data.subset if data else None,
        norm=spec.norm,
        eps=spec.eps,
        budget=spec.budget,
        budget_seconds=train.train_seconds if train else None,
        **{name: getattr(train, name, None) for name in ("limit_train", "epochs", "batch_size", "precision", "engine")},
        device_type=device_type,
        device=machine.device if machine else None,
        threads=threads if device_type == "cpu" else None,
        tf32=machine.tf32 and device_type == "cuda" if machine else None,
    )


def _adopt(partial: Setting, complete: set[Setting]) -> Setting:
    known = [
        (name, value) for name, value in vars(partial).items() if value is not None or name not in _UNKNOWN_AT_FIRST
    ]
    fitting = [one for one in complete if all(getattr(one, name) == value for name, value in known)]
    return fitting[0] if len(fitting) == 1 else partial
