"""What tells one row of a table from another: the spec without its seed, and the method's source."""

from collections import defaultdict
from collections.abc import Sequence

from fatbench.config.option import Section
from fatbench.config.spec import FIELDS, OPTIONS, short_name
from fatbench.record import Record
from fatbench.report.formats import plain

Value = bool | int | float | str | None
Configuration = dict[str, Value]  # flat: "lr", "hyper.beta", "evaluations.pgd-20", "source", ...

_IN_SETTING = {"dataset", "norm", "eps", "epochs", "train_seconds", "limit_train", "batch_size", "precision", "engine"}
_IN_SETTING |= {"device", "threads"}  # of the group; as all but the seed
_NOT_HERE = _IN_SETTING | {"seed", "method_source"}  # "source", the method's as it was run, says the latter
_OF_THE_TRAINER = {name for name, one in OPTIONS.items() if one.panel in (Section.OPTIMISATION, Section.DATA)}
_OF_THE_TRAINER -= {*_IN_SETTING, "on_overfitting"}
_ADD_ONS = tuple(name for name in FIELDS if name in _OF_THE_TRAINER - {"peak"} and FIELDS[name].default is None)
_HASHES = {"source", "model_source", "checkpoint"}
_ABSENT = object()


def configuration(record: Record) -> Configuration:
    """Return everything that seeds of one row have in common and its group does not already say.

    A field added to the spec is in it without further ado. What decides nothing is left out: by what to select where
    nothing is, and where another schedule turns.
    """
    spec, train = record.spec, record.spec.train
    without = set(_NOT_HERE)
    if train is not None:
        without |= {"select_on"} if train.select == "last" else set()
        without |= {"milestones"} if train.schedule != "piecewise" else set()
        without |= {"peak"} if train.peak is None else set()
    if "autoattack" not in spec.eval.evaluations:  # no other attack has two engines
        without |= {"eval_engine"}
    found: Configuration = {}
    for field, value in spec.flat().items():
        if field in without:
            continue
        if isinstance(value, dict):
            found |= {f"{field}.{name}": value[name] for name in sorted(value)}
        else:
            found[field] = _joined(value) if isinstance(value, tuple) else value
    if train is not None:  # else its checkpoint is in the spec
        found["source"] = record.method.sha256
    return found


def labels(configurations: Sequence[Configuration]) -> list[str]:
    """Return a name for each row of a group: its method, then what sets it apart from its namesakes.

    Namesakes share method and model, as tables show the model apart. What the trainer does differently for any two rows
    of the group stands in every label: it is no merit of a method.
    """
    trainer = [field for field in _differing(configurations) if field in _OF_THE_TRAINER]
    named: dict[tuple[str, str], list[Configuration]] = defaultdict(list)
    for one in configurations:
        named[names(one)].append(one)
    differing = {name: _differing(namesakes) for name, namesakes in named.items()}
    fields = {name: list(dict.fromkeys([*own, *trainer])) for name, own in differing.items()}
    return [_label(one, fields[names(one)]) for one in configurations]


def names(one: Configuration) -> tuple[str, str]:
    """Return the short names of its method and model."""
    return short_name(str(one["method"])), short_name(str(one["model"]))


def _joined(value: tuple[object, ...]) -> str:
    """The text of a tuple, or of a tuple of tuples of numbers."""
    return ";".join(",".join(map(str, one)) for one in value if isinstance(one, tuple)) or ",".join(map(str, value))


def _differing(namesakes: Sequence[Configuration]) -> list[str]:
    fields = list(dict.fromkeys(field for one in namesakes for field in one))
    differing = [field for field in fields if len({one.get(field, _ABSENT) for one in namesakes}) > 1]
    return sorted(differing, key=lambda field: not field.startswith("hyper."))


def _label(one: Configuration, fields: Sequence[str]) -> str:
    added = [field for field in _ADD_ONS if one.get(field) is not None]  # said always: they are no part of the method
    said = [field for field in fields if field in one and field not in _ADD_ONS]
    return " ".join([names(one)[0], *(_setting(field, one[field]) for field in (*said, *added))])


def _setting(field: str, value: Value) -> str:
    kind, _, name = field.partition(".")
    if kind == "evaluations":
        return plain(f"{name} n={'all' if value is None else value}")
    if kind == "eval_precision":
        return plain(f"{name} precision={value:g}")
    if field in _HASHES:
        return plain(f"{field}={str(value)[:8]}")
    text = "" if value is None else str(value).removesuffix(".0")
    return plain(f"{field.removeprefix('hyper.')}={text or 'nothing'}")
