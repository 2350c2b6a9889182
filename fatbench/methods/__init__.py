"""The catalogue of training methods: this folder's files are the registry, packages add to it, a path brings one's own.

Names, hyper-parameters and docstrings are read from the source without running it, so listing needs no torch;
`load` imports the file.
"""

from __future__ import annotations

import importlib
import inspect
import sys
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, TypeVar

from fatbench.errors import UsageError
from fatbench.methods._entry_points import installed_methods
from fatbench.methods._hyper import Value
from fatbench.methods._source import Description, check_compatible, read
from fatbench.user_code import run_file

if TYPE_CHECKING:
    from torch import nn

    from fatbench.interface import Batch, Context, Losses

__all__ = [
    "Description",
    "Method",
    "Value",
    "again",
    "built_in",
    "check_compatible",
    "describe",
    "load",
    "names",
    "warnings",
]

FOLDER = Path(__file__).parent
Result = TypeVar("Result")


@dataclass(frozen=True)
class Method:
    """A method ready to run: called once a batch, it yields the losses to step on."""

    description: Description
    hyper: dict[str, Value]
    function: Callable[..., Losses] = field(repr=False)

    @property
    def name(self) -> str:
        return self.description.name

    @property
    def source(self) -> str:
        return self.description.source

    def __call__(self, model: nn.Module, batch: Batch, ctx: Context) -> Losses:
        return self.function(model, batch, ctx, **self.hyper)


def names() -> list[str]:
    """Return the registered methods' names, sorted: fatbench's own, and those that installed packages bring."""
    own = built_in()
    return sorted([*own, *installed_methods(own)[0]])


def built_in() -> list[str]:
    """Return the names of fatbench's own methods, sorted."""
    return sorted(path.stem.replace("_", "-") for path in FOLDER.glob("[a-z]*.py"))


def warnings() -> list[str]:
    """Return a line for each method of an installed package that is passed over, as another has its name."""
    return installed_methods(built_in())[1]


def describe(name: str) -> Description:
    """Return what the method called `name`, or the file at that path, says about itself. Does not run it.

    Raises:
        UsageError: there is no such method or file, or the file does not hold a method.
    """
    if name.endswith(".py"):
        if not Path(name).is_file():
            raise UsageError(f"no method file {name}")
        return read(Path(name))
    own = built_in()
    if name in own:
        return read(FOLDER / f"{name.replace('-', '_')}.py")
    others = installed_methods(own)[0]
    if name not in others:
        raise UsageError(
            f"no method '{name}': there are {', '.join(sorted([*own, *others]))}, or the path of a .py file"
        )
    found = others[name]
    described = read(found.source(), found.function)
    return replace(described, name=name, module=found.module, package=found.package)


def load(name: str, **hyper: Value) -> Method:
    """Return the method called `name` ("bs-trades", or "path/to/my_idea.py") with the paper's defaults or `hyper`.

    Raises:
        UsageError: no such method (the line says which exist), no such hyper-parameter, or a file that does not import.
    """
    description = describe(name)
    settings = description.complete(hyper)
    if description.path.parent == FOLDER:
        module = importlib.import_module(f"{__name__}.{description.function}")
    elif description.module:
        module = _run(description, lambda: importlib.import_module(description.module))
    else:
        module = _execute(description)
    return Method(description, settings, _function(description, module))


def again(method: Method) -> Method:
    """Return the method from a run of its file of its own: as another process would have it."""
    return replace(method, function=_function(method.description, _execute(method.description)))


def _function(description: Description, module: ModuleType) -> Callable[..., Losses]:
    function = getattr(module, description.function, None)
    if not inspect.isgeneratorfunction(function):
        what = f"{description.path}: '{description.function}' yields no losses"
        raise UsageError(f"{what}; a method says 'yield loss' once per optimiser step")
    return function


def _execute(description: Description) -> ModuleType:
    name = description.module or f"fatbench_method_{description.path.stem}"
    before = sys.modules.get(name) if description.module else None
    try:
        return _run(description, lambda: run_file(name, description.path, description.source))
    finally:
        if before is not None:  # the package's own goes on being the one that others import
            sys.modules[name] = before


def _run(description: Description, do: Callable[[], Result]) -> Result:
    try:
        return do()
    except (Exception, SystemExit) as error:  # it may fail in any way; the user needs to know that it is hers
        raise UsageError(f"{description.path} fails to import: {type(error).__name__}: {error}") from error
