"""Presets: named settings in TOML. A preset named like a dataset holds its defaults; the others are published recipes.

The comment at the head of a file says what to expect, its source, and the command. A recipe is called
AUTHORYEAR-METHOD, as chen2022-bs-trades, and is that method's official one.
"""

import re
import tomllib
from collections.abc import Iterable, Mapping
from itertools import takewhile
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel, BeforeValidator, ConfigDict, ValidationError, create_model

from fatbench.config.parsing import parse_eps
from fatbench.config.spec import FIELDS, OPTIONS, Hyper, first_problem
from fatbench.errors import UsageError
from fatbench.io.safe_read import read_file

FOLDER = Path(__file__).parent
GENERIC = "images"  # for datasets that have no preset of their own
OF_THE_METHOD = ("method", "hyper", "tracks", "published", "source")  # keys that the spec has no field for
_LARGEST = 2**20  # bytes
_COLUMNS = 120  # of the files here
_RECIPE = re.compile(r"[a-z]+[12][0-9]{3}-(.+)")


class Track(BaseModel):
    """A line of the authors' table of hyper-parameters that they tie to eps: 8, 12 and 16/255 among them."""

    model_config = ConfigDict(extra="forbid", strict=True)

    eps: list[Annotated[str, BeforeValidator(parse_eps)]]  # of the L-infinity norm
    datasets: list[str] = []  # where it holds; none named: everywhere
    when: Hyper = {}  # what else it presupposes of the method's hyper-parameters
    hyper: Hyper  # what to set


class _Base(BaseModel):
    """The keys of a preset that are no option of the command line."""

    model_config = ConfigDict(extra="forbid", strict=True)

    method: str | None = None  # a recipe's
    hyper: dict[str, Hyper] = {}  # [hyper.METHOD]: what the data or the recipe wants of a method
    source: str | None = None  # a recipe's citation, for ...
    tracks: list[Track] = []  # ... [[tracks]]: what its authors tie to eps
    published: dict[str, list[float] | list[str]] = {}  # ... and [published]: from the least to the most, or the words
    evaluate: list[str] | None = None
    autoattack_samples: int | None = None


def _toml_type(name: str) -> Any:
    """Return what a preset holds for the option of a field: its own type without constraints, or another that it says.

    Values are checked further where they become a spec.
    """
    return OPTIONS[name].toml_type or plain_type(name)


def plain_type(name: str) -> Any:
    """Return the type of a field, by its flat name, without None and constraints."""
    found: Any = FIELDS[name].annotation
    while get_origin(found) in (Union, UnionType) or hasattr(found, "__metadata__"):
        found = next(one for one in get_args(found) if one is not type(None))
    return found


# What a preset may set: every option of the command line by its key, and the keys above.
Preset = create_model(
    "Preset",
    __base__=_Base,
    **{one.key or name: (_toml_type(name) | None, None) for name, one in OPTIONS.items()},  # type: ignore[call-overload]
)


def names() -> list[str]:
    """Return the presets' names, sorted."""
    return sorted(path.stem for path in FOLDER.glob("*.toml"))


def load(name: str) -> dict[str, Any]:
    """Return what the preset `name`, or the TOML file at that path, sets.

    Raises:
        UsageError: there is no such preset, or the file is not valid TOML, or sets what it may not.
    """
    path = _locate(name)
    try:
        content = tomllib.loads(read_file(path, _LARGEST).decode("utf-8"))
    except (ValueError, RecursionError) as error:  # encoding, syntax, a number of thousands of digits, deep nesting
        raise UsageError(f"{path} is not valid TOML: {error}") from None
    try:
        found = Preset.model_validate(content).model_dump(exclude_unset=True)
    except ValidationError as error:
        problem = error.errors()[0]
        if problem["type"] == "extra_forbidden" and len(problem["loc"]) == 1:
            raise UsageError(f"{path}: {no_setting(problem['loc'][0], Preset.model_fields)}") from None
        raise UsageError(f"{path}: {first_problem(error)}") from None
    if "hyper" in found:
        found["hyper"] = {method.replace("_", "-"): hyper for method, hyper in found["hyper"].items()}
    return found


def no_setting(name: object, known: Iterable[str]) -> str:
    """Return the line that refuses an unknown key of a preset, which keyword arguments of the API share."""
    return f"no setting '{name!s:.40}'; there are {', '.join(sorted(known))}"


def for_dataset(dataset: str) -> dict[str, Any]:
    """Return the default settings for a dataset: its own preset's, or the generic one's."""
    own = load(dataset) if dataset in names() else {}
    return own if own and "method" not in own else load(GENERIC)


def official(method: str) -> dict[str, Any]:
    """Return what the official recipe of `method` sets, or {} if it has none."""
    name = recipes().get(method)
    return load(name) if name else {}


def recipes() -> dict[str, str]:
    """Return the name of each method's official recipe, by method; its file's name says whose it is."""
    found = ((_RECIPE.fullmatch(name), name) for name in names())
    return {match[1]: name for match, name in found if match}


def hyper_of(method: str) -> dict[str, Hyper]:
    """Return the hyper-parameters that each preset sets for `method`, by the preset's name."""
    settings = {name: load(name).get("hyper", {}).get(method) for name in names()}
    return {name: hyper for name, hyper in settings.items() if hyper}


def describe(name: str) -> str:
    """Return the first line of the comment at the head of the preset."""
    return _locate(name).read_text(encoding="utf-8").partition("\n")[0].removeprefix("#").strip()


def comment(name: str) -> list[str]:
    """Return the paragraphs of the comment at the head of the preset: a line that had room for more ends one."""
    lines = read_file(_locate(name), _LARGEST).decode("utf-8").splitlines()
    head = [line.removeprefix("#").strip() for line in takewhile(lambda line: line.startswith("#"), lines)]
    paragraphs: list[str] = []
    for before, line in zip(["", *head], head, strict=False):
        full = len(f"# {before} {line.partition(' ')[0]}") > _COLUMNS
        paragraphs[-1:] = [f"{paragraphs[-1]} {line}"] if full else [*paragraphs[-1:], line]
    return paragraphs


def tied_names(tracks: Iterable[Mapping[str, Any]]) -> list[str]:
    """Return the names of the hyper-parameters that the tracks set."""
    return list(dict.fromkeys(name for track in tracks for name in track["hyper"]))


def at_eps(eps: str, dataset: str, chosen: Hyper, tracks: Iterable[Mapping[str, Any]]) -> Hyper:
    """Return what the tracks set at `eps` for `dataset`, where the hyper-parameters are otherwise `chosen`.

    Of two that fit, the later one prevails: what holds for one dataset stands behind what holds everywhere.
    """
    found: Hyper = {}
    for track in tracks:
        here = not track.get("datasets") or dataset in track["datasets"]
        if eps in track["eps"] and here and track.get("when", {}).items() <= chosen.items():
            found |= track["hyper"]
    return found


def track_in_words(track: Mapping[str, Any]) -> str:
    """Return the track in a line: "eps 8/255 (cifar100, base=n): weight=1.5"."""
    conditions = [*track.get("datasets", []), *_assignments(track.get("when", {}))]
    where = f" ({', '.join(conditions)})" if conditions else ""
    return f"eps {', '.join(track['eps'])}{where}: {' '.join(_assignments(track['hyper']))}"


def _assignments(hyper: Hyper) -> list[str]:
    return [f"{name}={value}" for name, value in hyper.items()]


def _locate(name: str) -> Path:
    if name.endswith(".toml"):
        return Path(name)
    if name not in names():
        raise UsageError(f"no preset '{name}': there are {', '.join(names())}, or the path of a .toml file")
    return FOLDER / f"{name}.toml"
