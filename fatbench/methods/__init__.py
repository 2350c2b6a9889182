"""The catalogue of training methods: the files of this folder are the registry, and a path brings one's own.

Names, hyper-parameters and docstrings are read from the source without running it, so listing needs no torch;
`load` imports the file.
"""

from __future__ import annotations

import importlib.util
import inspect
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fatbench.errors import UsageError
from fatbench.methods._source import Description, Value, read

if TYPE_CHECKING:
    from torch import nn

    from fatbench.interface import Batch, Context, Losses

FOLDER = Path(__file__).parent


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
    """Return the registered methods' names, sorted."""
    return sorted(path.stem.replace("_", "-") for path in FOLDER.glob("[a-z]*.py"))


def describe(name: str) -> Description:
    """Return what the method called `name`, or the file at that path, says about itself. Does not run it.

    Raises:
        UsageError: there is no such method or file, or the file does not hold a method.
    """
    return read(_locate(name))


def load(name: str, **hyper: Value) -> Method:
    """Return the method called `name` ("bs-trades", or "path/to/my_idea.py") with the paper's defaults or `hyper`.

    Raises:
        UsageError: no such method (the line says which exist), no such hyper-parameter, or a file that does not import.
    """
    description = describe(name)
    settings = description.complete(hyper)
    if description.path.parent == FOLDER:
        module = importlib.import_module(f"{__name__}.{description.function}")
    else:
        module = _import_file(description.path, description.function)
    return Method(description, settings, getattr(module, description.function))


def _locate(name: str) -> Path:
    if name.endswith(".py"):
        if not Path(name).is_file():
            raise UsageError(f"no method file {name}")
        return Path(name)
    if name not in names():
        raise UsageError(f"no method '{name}': there are {', '.join(names())}, or the path of a .py file")
    return FOLDER / f"{name.replace('-', '_')}.py"


def _import_file(path: Path, function: str) -> Any:
    module_spec = importlib.util.spec_from_file_location(f"fatbench_method_{path.stem}", path)
    assert module_spec is not None  # the path ends in .py
    assert module_spec.loader is not None
    module = importlib.util.module_from_spec(module_spec)
    sys.modules[module_spec.name] = module  # dataclasses look their module up there
    try:
        module_spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:  # it may fail in any way; the user needs to know that it is hers
        raise UsageError(f"{path} fails to import: {type(error).__name__}: {error}") from error
    if not inspect.isgeneratorfunction(getattr(module, function)):
        raise UsageError(f"{path}: '{function}' yields no losses; a method says 'yield loss' once per optimiser step")
    return module
