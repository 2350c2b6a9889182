"""Methods that other packages bring, by the entry-point group `fatbench.methods`: `name = "package.module:function"`.

Nothing here is called unless methods are listed or a name is not fatbench's own. Whatever other people's packages do,
it ends in one line.
"""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from fatbench.errors import UsageError, one_line

if TYPE_CHECKING:
    from importlib.metadata import Distribution

GROUP = "fatbench.methods"


@dataclass(frozen=True)
class InstalledMethod:
    """One method of an installed package."""

    name: str
    module: str
    function: str
    package: str  # the distribution's name and version

    def source(self) -> Path:
        """Return its source file. The module is not run, but the packages that it lies in are.

        Raises:
            UsageError: there is none.
        """
        try:
            found = importlib.util.find_spec(self.module)
            origin = found.origin if found else None
        except (Exception, SystemExit) as error:  # a package may fail in any way
            raise UsageError(f"{self} fails to import: {type(error).__name__}: {error}") from error
        if origin is None or not origin.endswith(".py"):
            raise UsageError(f"{self} has no source: there is no file of a module '{self.module}'")
        return Path(origin)

    def __str__(self) -> str:
        return f"method '{self.name}' of the package {self.package}"


def installed_methods(taken: list[str]) -> tuple[dict[str, InstalledMethod], list[str]]:
    """Return the methods that installed packages bring, by name, and a line for each that is passed over.

    Args:
        taken: names of fatbench's own methods, which nobody replaces.
    """
    found: dict[str, InstalledMethod] = {}
    entries, warnings = _entries()
    for one in sorted(entries, key=lambda one: (one.name, one.package)):
        if one.name in taken:
            warnings.append(f"{one} is passed over: fatbench has one of this name")
        elif one.name in found:
            warnings.append(f"{one} is passed over: {found[one.name].package} brings one of this name")
        elif not (one.module and one.function.isidentifier()):
            warnings.append(f"{one} is passed over: its entry point is not of the form package.module:function")
        else:
            found[one.name] = one
    return found, warnings


def _entries() -> tuple[list[InstalledMethod], list[str]]:
    """Return what all packages bring, and a line for each whose entry points for us are damaged."""
    from importlib.metadata import distributions  # not free, and rarely needed

    found: list[InstalledMethod] = []
    damaged, seen = [], set()
    for distribution in distributions():
        try:
            entries = [entry for entry in distribution.entry_points if entry.group == GROUP]
            if not entries:
                continue
            name, version = (distribution.metadata.json.get(key) for key in ("name", "version"))
            if not (name and version):
                raise ValueError("no name or no version")
            if name in seen:  # the first on the path is the one that is imported
                continue
            seen.add(name)
            package = f"{name} {version}"
            for entry in entries:
                module, _, function = (part.strip() for part in entry.value.partition(":"))
                found.append(InstalledMethod(entry.name.replace("_", "-"), module, function, package))
        except Exception as error:  # installed packages may be damaged in any way
            if _means_us(distribution):
                why = one_line(f"{type(error).__name__}: {error}")
                damaged.append(
                    f"the methods of {_place(distribution)} are passed over: its metadata are damaged ({why})"
                )
    return found, sorted(damaged)


def _means_us(distribution: Distribution) -> bool:
    """Whether a damaged package would bring methods: what is wrong with others is no business of ours."""
    try:
        return f"[{GROUP}]" in (distribution.read_text("entry_points.txt") or "")
    except Exception:
        return False


def _place(distribution: Distribution) -> str:
    """What a package is called whose metadata may not say it: the folder that they lie in."""
    return Path(str(getattr(distribution, "_path", "an installed package"))).name
