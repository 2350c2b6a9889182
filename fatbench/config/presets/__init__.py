"""Presets: named settings in TOML. A preset named like a dataset holds its defaults; the others are published recipes.

The comment at the head of a file says what to expect, its source, and the command. A recipe is called
AUTHORYEAR-METHOD, as chen2022-bs-trades, and is that method's official one.
"""

import re
import tomllib
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from fatbench.config.presets.tracks import Track
from fatbench.config.spec import Hyper, Norm, Precision, Schedule, first_problem
from fatbench.errors import UsageError
from fatbench.io.safe_read import read_file

FOLDER = Path(__file__).parent
GENERIC = "images"  # for datasets that have no preset of their own
_LARGEST = 2**20  # bytes
_RECIPE = re.compile(r"[a-z]+[12][0-9]{3}-(.+)")


class Preset(BaseModel):
    """What a preset may set; values are checked further where they become a RunSpec."""

    model_config = ConfigDict(extra="forbid", strict=True)

    method: str | None = None  # a recipe's
    hyper: dict[str, Hyper] = {}  # [hyper.METHOD]: what the data or the recipe wants of a method
    source: str | None = None  # a recipe's citation, for ...
    tracks: list[Track] = []  # ... [[tracks]]: what its authors tie to eps
    published: dict[str, list[float] | list[str]] = {}  # ... and [published]: from the least to the most, or the words
    dataset: str | None = None
    model: str | None = None
    norm: Norm | None = None
    eps: str | None = None
    epochs: int | None = None
    time_budget: str | None = None
    batch_size: int | None = None
    lr: float | None = None
    schedule: Schedule | None = None
    milestones: list[str | float] | None = None
    peak: str | float | None = None
    momentum: float | None = None
    weight_decay: float | None = None
    pad: int | None = None
    flip: bool | None = None
    label_smoothing: float | None = None
    ema: float | None = None
    swa: float | None = None
    awp: float | None = None
    precision: Precision | None = None
    threads: int | None = None
    evaluate: list[str] | None = None
    autoattack_samples: int | None = None


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
        return Preset.model_validate(content).model_dump(exclude_unset=True)
    except ValidationError as error:
        raise UsageError(f"{path}: {first_problem(error)}") from None


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


def _locate(name: str) -> Path:
    if name.endswith(".toml"):
        return Path(name)
    if name not in names():
        raise UsageError(f"no preset '{name}': there are {', '.join(names())}, or the path of a .toml file")
    return FOLDER / f"{name}.toml"
