"""Other people's factories of models: find one, and call it as its signature says, each failure in one line."""

import importlib
import inspect
import re
import sys
from collections.abc import Callable, Collection
from difflib import get_close_matches
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

from torch import nn

from fatbench.errors import UsageError
from fatbench.user_code import run_file

Factory = Callable[..., Any]
# A user's code may fail in any way, sys.exit included; the user needs to know that it is hers.
ANY_FAILURE = (Exception, SystemExit)
_SPELLINGS = {"num_classes": ("num_classes",), "in_channels": ("in_channels", "in_chans")}  # torchvision's, timm's
_SPELLINGS |= {"image_size": ("image_size", "img_size")}
_FRESH: dict[str, Any] = {"weights": None, "weights_backbone": None, "pretrained": False, "pretrained_backbone": False}
_NAMED = 12


def find_factory(target: str) -> Factory:
    """Return the factory at "package.module:factory" or "path/to/file.py:factory".

    Raises:
        UsageError: no such module, file or factory, or the code fails to import.
    """
    module_name, _, attribute = target.rpartition(":")
    if not module_name or not attribute:
        raise UsageError(f"'{target}' names no factory: write package.module:factory, or path/to/file.py:factory")
    module = _import_file(Path(module_name)) if module_name.endswith(".py") else _import_module(module_name)
    factory: Factory | None = getattr(module, attribute, None)
    create: Factory | None = getattr(module, "create_model", None)
    if (
        callable(create)
        and (factory is None or factory is create)
        and "model_name" in inspect.signature(create).parameters
    ):
        if factory is create:
            raise UsageError(f"{target} makes models by name: write {module_name}:NAME, as {module_name}:resnet18")
        return partial(create, attribute)
    if not callable(factory):
        raise UsageError(f"{module_name} has no factory '{attribute}'; it has {_factories(module, attribute)}")
    return factory


def call_factory(
    factory: Factory, name: str, num_classes: int, shape: tuple[int, int, int]
) -> tuple[nn.Module, dict[str, Any]]:
    """Return the network that the factory makes, and those of the three arguments that it accepts, by its names.

    Pretrained weights are declined where its signature knows of them.

    Raises:
        UsageError: it fails, or returns something else.
    """
    channels, height, width = shape
    size = height if height == width else (height, width)
    try:
        net, given = _called(factory, {"num_classes": num_classes, "in_channels": channels, "image_size": size})
    except ANY_FAILURE as error:
        raise UsageError(f"{name} raised {failure(error)}") from error
    if not isinstance(net, nn.Module):
        raise UsageError(f"{name} returned a {type(net).__name__}: a factory returns a torch.nn.Module")
    return net, given


def wrapped(name: str, given: Collection[str], side: int | None = None) -> str:
    """Return how to make a factory of a user's own out of the one called `name`: a line of Python, and what to do.

    Args:
        given: the names of arguments that the other factory takes.
        side: of the images in pixels that its network is to get.
    """
    known = {spelling: name for name, spellings in _SPELLINGS.items() for spelling in spellings}
    values = {one: str(side) if known[one] == "image_size" and side else known[one] for one in given}
    taken = ", ".join(value for value in values.values() if not value.isdecimal())
    module, _, attribute = name.rpartition(":")
    imported, call = attribute, f"{attribute}("
    if not hasattr(sys.modules.get(module), attribute):
        imported, call = "create_model", f"create_model('{attribute}', "
    made = f"{call}{', '.join(f'{one}={value}' for one, value in values.items())})"
    code = f"from {module} import {imported}; return {made}"
    if side:
        code = (
            f"from torch import nn; from {module} import {imported}; return nn.Sequential(nn.Upsample({side}), {made})"
        )
    return f"give --model net.py:make with this line in net.py: `def make({taken}): {code}`"


def failure(error: BaseException) -> str:
    """Return one line out of an exception, whose message may run over many."""
    message = " ".join(str(error).split())
    return f"{type(error).__name__}: {message:.200}" if message else type(error).__name__


def _called(factory: Factory, offered: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    """What the factory returns, given what its signature accepts, and that.

    Keyword arguments without names (**kwargs) take anything, or pass it on to what refuses it: then another spelling is
    tried, or none.
    """
    parameters = inspect.signature(factory).parameters.values()
    known = {one.name for one in parameters if one.kind in (one.POSITIONAL_OR_KEYWORD, one.KEYWORD_ONLY)}
    takes_any = any(one.kind is one.VAR_KEYWORD for one in parameters)
    spellings = {
        name: [one for one in _SPELLINGS[name] if one in known] or list(takes_any * _SPELLINGS[name])
        for name in offered
    }
    while True:
        given = {names[0]: offered[name] for name, names in spellings.items() if names}
        try:
            return factory(**given, **{name: value for name, value in _FRESH.items() if name in known}), given
        except TypeError as error:
            refused = re.findall(r"'(\w+)'", str(error).partition("unexpected keyword argument")[2])
            tried = [names for names in spellings.values() if takes_any and names and names[0] in refused]
            if not tried:
                raise
            for names in tried:
                del names[0]


def _factories(module: ModuleType, wanted: str) -> str:
    """What there is in the module, or the nearest to `wanted` where that is too much."""
    inside = f"{module.__name__}."
    own = [
        name
        for name, value in vars(module).items()
        if callable(value) and f"{getattr(value, '__module__', '')}.".startswith(inside) and not name.startswith("_")
    ]
    if len(own) > _NAMED:
        return f"{', '.join(get_close_matches(wanted, own, cutoff=0))} and {len(own) - 3} more"
    return ", ".join(own) or "no functions or classes"


def _import_module(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name and f"{name}.".startswith(f"{error.name}."):
            remedy = "install it, put its folder on PYTHONPATH, or give path/to/file.py:factory"
            raise UsageError(f"no module '{error.name}': {remedy}") from None
        raise UsageError(f"{name} fails to import: {failure(error)}") from error
    except ANY_FAILURE as error:
        raise UsageError(f"{name} fails to import: {failure(error)}") from error


def _import_file(path: Path) -> ModuleType:
    if not path.is_file():
        raise UsageError(f"no model file {path}")
    try:
        return run_file(f"fatbench_model_{path.stem}", path)
    except ANY_FAILURE as error:
        raise UsageError(f"{path} fails to import: {failure(error)}") from error
