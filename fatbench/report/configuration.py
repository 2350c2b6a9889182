"""What tells one row of a table from another: the spec without its seed, and the method's source."""

from collections import defaultdict
from collections.abc import Sequence

from fatbench.config.spec import EXTERNAL, short_name
from fatbench.record import Record
from fatbench.report.plain_text import plain

Value = bool | int | float | str | None
Configuration = dict[str, Value]  # flat: "lr", "hyper.beta", "evaluations.pgd-20", "source", ...

_NOT_HERE = {"seed", *("dataset", "norm", "eps", "epochs", "train_seconds", "limit_train"), *("device", "threads")}
_NOT_HERE |= {"batch_size", "precision", "engine"}  # in the group's setting, as all but the seed
_NOT_HERE |= {"method_source"}  # "source", the method's as it was run, says the same
_OF_THE_TRAINER = {"lr", "schedule", "milestones", "peak", "momentum", "weight_decay", "pad", "flip"}  # equal footing
_ADD_ONS = ("label_smoothing", "ema", "swa", "awp")  # a row without says nothing of them
_OF_THE_TRAINER |= set(_ADD_ONS)
_OF_TRAINING = _OF_THE_TRAINER | {"without", "compile", "target", "on_overfitting", "select", "select_on"}
_HASHES = {"source", "model_source", "checkpoint"}
_ABSENT = object()


def configuration(record: Record) -> Configuration:
    """Return everything that seeds of one row have in common and its group does not already say.

    A field added to RunSpec is in it without further ado. What decides nothing is left out: how to train, for a model
    that was trained elsewhere, by what to select where nothing is, and where another schedule turns.
    """
    spec = record.spec
    without = _NOT_HERE | _OF_TRAINING if spec.method == EXTERNAL else _NOT_HERE
    if spec.select == "last":
        without = without | {"select_on"}
    if spec.schedule != "piecewise":
        without = without | {"milestones"}
    if spec.peak is None:
        without = without | {"peak"}
    if "autoattack" not in spec.evaluations:  # no other attack has two engines
        without = without | {"eval_engine"}
    found: Configuration = {}
    for field, value in vars(spec).items():
        if field in without:
            continue
        if isinstance(value, dict):
            found |= {f"{field}.{name}": value[name] for name in sorted(value)}
        else:
            found[field] = _concatenated(value) if isinstance(value, tuple) else value
    if spec.method != EXTERNAL:  # its checkpoint is in the spec
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


def _concatenated(value: tuple[object, ...]) -> str:
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
