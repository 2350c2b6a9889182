"""Other people's models: find a factory, call it, and check what it returns, each failure in one line."""

import importlib
import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from fatbench.errors import UsageError
from fatbench.models.classifier import Classifier, full_precision
from fatbench.ops import evaluating
from fatbench.user_code import run_file

Factory = Callable[..., Any]
_ARGUMENTS = "a factory may take num_classes, in_channels and image_size"
# A user's code may fail in any way, sys.exit included; the user needs to know that it is hers.
_ANY_FAILURE = (Exception, SystemExit)


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
    if not callable(factory):
        own = [name for name, value in vars(module).items() if getattr(value, "__module__", "") == module.__name__]
        has = ", ".join(name for name in own if not name.startswith("_")) or "no functions or classes"
        raise UsageError(f"{module_name} has no factory '{attribute}'; it has {has}")
    return factory


def call_factory(factory: Factory, name: str, num_classes: int, shape: tuple[int, int, int]) -> nn.Module:
    """Return the network that the factory makes, given those of the three arguments that it accepts.

    Raises:
        UsageError: it fails, or returns something else.
    """
    channels, height, width = shape
    size = height if height == width else (height, width)
    try:
        net = factory(**_accepted(factory, num_classes=num_classes, in_channels=channels, image_size=size))
    except _ANY_FAILURE as error:
        raise UsageError(f"{name} raised {_line(error)}; {_ARGUMENTS}") from error
    if not isinstance(net, nn.Module):
        raise UsageError(f"{name} returned a {type(net).__name__}: a factory returns a torch.nn.Module")
    return net


def check_contract(
    classifier: Classifier, name: str, num_classes: int, shape: tuple[int, int, int], *, trainable: bool = True
) -> None:
    """Try the classifier on two black images; its modes and buffers, and torch's generator, stay as they are.

    Raises:
        UsageError: the logits are not (2, num_classes), floating point and finite, or a trainable model has no
            parameter that requires a gradient.
    """
    what = f"2 images of {'x'.join(map(str, shape))}"
    try:
        with _leaving_no_trace(classifier):
            logits = classifier(torch.zeros(2, *shape))
    except _ANY_FAILURE as error:
        raise UsageError(f"{name} fails on {what}: {_line(error)}") from error
    if logits.shape != (2, num_classes) or not logits.is_floating_point():
        raise UsageError(
            f"{name} maps {what} to {_kind(logits)} of shape {tuple(logits.shape)}, "
            f"expected floating-point logits of shape (2, {num_classes}): give its last layer num_classes outputs"
        )
    if not bool(torch.isfinite(logits).all()):
        raise UsageError(f"{name} maps {what}, all black, to logits that are not finite: check its initialisation")
    if trainable and not any(parameter.requires_grad for parameter in classifier.parameters()):
        raise UsageError(f"{name} has nothing to train: none of its parameters requires a gradient")


@contextmanager
def _leaving_no_trace(classifier: Classifier) -> Iterator[None]:
    # What a lazy module has yet to create has no value to keep.
    kept = [(buffer, buffer.clone()) for buffer in classifier.buffers() if not is_lazy(buffer)]
    with torch.random.fork_rng(devices=[]), evaluating(classifier), full_precision(classifier), torch.no_grad():
        try:
            yield
        finally:
            for buffer, value in kept:
                buffer.copy_(value)


def _accepted(factory: Factory, **offered: Any) -> dict[str, Any]:
    parameters = inspect.signature(factory).parameters
    if any(one.kind is one.VAR_KEYWORD for one in parameters.values()):
        return offered
    by_name = {name for name, one in parameters.items() if one.kind in (one.POSITIONAL_OR_KEYWORD, one.KEYWORD_ONLY)}
    return {name: value for name, value in offered.items() if name in by_name}


def _import_module(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name and f"{name}.".startswith(f"{error.name}."):
            remedy = "install it, put its folder on PYTHONPATH, or give path/to/file.py:factory"
            raise UsageError(f"no module '{error.name}': {remedy}") from None
        raise UsageError(f"{name} fails to import: {_line(error)}") from error
    except _ANY_FAILURE as error:
        raise UsageError(f"{name} fails to import: {_line(error)}") from error


def _import_file(path: Path) -> ModuleType:
    if not path.is_file():
        raise UsageError(f"no model file {path}")
    try:
        return run_file(f"fatbench_model_{path.stem}", path)
    except _ANY_FAILURE as error:
        raise UsageError(f"{path} fails to import: {_line(error)}") from error


def _line(error: BaseException) -> str:
    """One line out of an exception, whose message may run over many."""
    message = " ".join(str(error).split())
    return f"{type(error).__name__}: {message:.300}" if message else type(error).__name__


def _kind(logits: Tensor) -> str:
    return str(logits.dtype).removeprefix("torch.")
