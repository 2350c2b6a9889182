"""Presets: named settings in TOML. A preset named like a dataset holds its defaults; the others are published recipes.

Keys are those of RunSpec, as the command line writes them; a [set] table holds hyper-parameters. The comment at the
head of a file says what to expect, its source, and the command.
"""

import tomllib
from pathlib import Path
from typing import Any

from fatbench.errors import UsageError

FOLDER = Path(__file__).parent
GENERIC = "images"  # for datasets that have no preset of their own


def names() -> list[str]:
    """Return the presets' names, sorted."""
    return sorted(path.stem for path in FOLDER.glob("*.toml"))


def load(name: str) -> dict[str, Any]:
    """Return the settings of the preset `name`, or of the TOML file at that path.

    Raises:
        UsageError: there is no such preset, or the file is not valid TOML.
    """
    path = _locate(name)
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror or error}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} is not valid TOML: {error}") from None


def for_dataset(dataset: str) -> dict[str, Any]:
    """Return the default settings for a dataset: its own preset's, or the generic one's."""
    return load(dataset if dataset in names() else GENERIC)


def describe(name: str) -> str:
    """Return the first line of the comment at the head of the preset."""
    return _locate(name).read_text(encoding="utf-8").partition("\n")[0].removeprefix("#").strip()


def _locate(name: str) -> Path:
    if name.endswith(".toml"):
        return Path(name)
    if name not in names():
        raise UsageError(f"no preset '{name}': there are {', '.join(names())}, or the path of a .toml file")
    return FOLDER / f"{name}.toml"
