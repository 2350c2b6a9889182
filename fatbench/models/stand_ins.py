"""Stand-ins for the Python objects beside weights in a checkpoint: nothing that a file names is imported or called."""

import io
import pickletools
from _compat_pickle import IMPORT_MAPPING, NAME_MAPPING
from collections import OrderedDict
from typing import Any

import torch

_HEADERS = 4  # pickles in a file of torch before 1.6: a number, a version, the machine, and what was saved


class _Result:
    """In the place of what a call of something in the file would have returned; no state of it is kept."""

    def __setstate__(self, _state: Any) -> None: ...


class _StandIn:
    """In the place of a class or function, called `name`."""

    def __init__(self, name: str) -> None:
        # torch creates instances by __new__; they may be dictionaries, and it gives items to its own kinds only.
        self.__new__ = self._instance  # type: ignore[method-assign, assignment]
        self._name = name

    def __call__(self, *_: Any) -> Any:
        return self._instance() if self._name == "collections.defaultdict" else _Result()

    def _instance(self, *_: Any) -> Any:
        instance: OrderedDict[str, Any] = OrderedDict()
        vars(instance)["python_class"] = self._name
        return instance


def stand_ins(content: bytes) -> list[Any]:
    """Return what torch.serialization.safe_globals is to put in the place of the Python objects in a checkpoint.

    torch's own unpickler, `weights_only`, still refuses what belongs to the modules os, posix, nt and sys.
    """
    return [(_Result, "a result"), *((_StandIn(name), name) for name in _names(content))]


def pickled_module(found: object) -> str:
    """Return the name of the class if a whole torch.nn.Module was pickled there, or ""."""
    state = vars(found) if type(found) is OrderedDict else {}
    return str(state.get("python_class", "")) if "_parameters" in state else ""


def _names(content: bytes) -> list[str]:
    """The full names of all that the file would have imported, besides what torch reads itself."""
    try:
        return torch.serialization.get_unsafe_globals_in_checkpoint(io.BytesIO(content))
    except Exception:  # an older file, or a damaged one, which fails in many ways
        return _names_in_old(content)


def _names_in_old(content: bytes) -> list[str]:
    file, names = io.BytesIO(content), set()
    try:
        for _ in range(_HEADERS):
            found = [str(name).split(" ", 1) for code, name, _ in pickletools.genops(file) if code.name == "GLOBAL"]
            names |= {".".join(_renamed(module, name)) for module, name in found}
    except (ValueError, IndexError, OverflowError):
        return []
    return sorted(names)


def _renamed(module: str, name: str) -> tuple[str, str]:
    """The present name of what pickles call by Python 2's."""
    renamed: tuple[str, str] = NAME_MAPPING.get((module, name), (IMPORT_MAPPING.get(module, module), name))
    return renamed
