"""Hyper-parameters: the keyword-only arguments of a method, their types, choices and bounds read from its source."""

import ast
import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fatbench.errors import UsageError

_TYPES: dict[str, type] = {"int": int, "float": float, "bool": bool, "str": str}
_ARTICLES = {"int": "a whole number", "float": "a number", "bool": "true or false", "str": "a word"}
Value = bool | int | float | str


@dataclass(frozen=True)
class Hyperparameter:
    """One keyword-only argument of a method."""

    name: str
    kind: str  # int, float, bool or str
    default: Value
    meaning: str  # from the docstring's Args
    choices: tuple[str, ...] = ()  # of a Literal; empty: any

    @property
    def bounds(self) -> tuple[float, float] | None:
        """What its meaning says that it lies in, as "in [0, 1]", or None."""
        found = re.search(r"\bin \[(\d+(?:\.\d+)?), (\d+(?:\.\d+)?)\]", self.meaning)
        return (float(found[1]), float(found[2])) if found else None


def hyperparameters(path: Path, function: ast.FunctionDef, docstring: str) -> dict[str, Hyperparameter]:
    found = {}
    for argument, default in zip(function.args.kwonlyargs, function.args.kw_defaults, strict=True):
        choices = _choices(argument.annotation)
        kind = "str" if choices else argument.annotation.id if isinstance(argument.annotation, ast.Name) else ""
        if kind not in _TYPES or default is None:
            raise UsageError(f"{path}: '{argument.arg}' needs a default and one of the types {', '.join(_TYPES)}")
        value = literal(default)
        if not fits(value, kind):
            raise UsageError(f"{path}: the default of '{argument.arg}' is not {_ARTICLES[kind]}")
        if kind in ("int", "float") and value < (1 if kind == "int" else 0):
            raise UsageError(f"{path}: the default of '{argument.arg}' is {value}: too small for a count or size")
        meaning = _meaning(argument.arg, docstring)
        found[argument.arg] = Hyperparameter(argument.arg, kind, _TYPES[kind](value), meaning, choices)
    return found


def _choices(annotation: ast.expr | None) -> tuple[str, ...]:
    """Return the words of Literal["one", "other"], or none for another annotation."""
    if not (isinstance(annotation, ast.Subscript) and ast.unparse(annotation.value) == "Literal"):
        return ()
    words = literal(annotation.slice)
    found = words if isinstance(words, tuple) else (words,)
    return found if all(isinstance(word, str) for word in found) else ()


def _meaning(name: str, docstring: str) -> str:
    """Return what the Args section says of `name`, its continuation lines joined."""
    lines = iter(docstring.splitlines())
    for line in lines:
        if line.strip().startswith(f"{name}:"):
            words, indent = [line.split(":", 1)[1].strip()], len(line) - len(line.lstrip())
            for following in lines:
                if not following.strip() or len(following) - len(following.lstrip()) <= indent:
                    break
                words.append(following.strip())
            return " ".join(words)
    return ""


def parse(method: str, hyper: Hyperparameter, value: str | Value) -> Value:
    text = str(value).strip()
    try:
        if hyper.kind == "bool":
            return {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}[text.lower()]
        parsed: Value = _TYPES[hyper.kind](text)
    except (KeyError, ValueError):
        raise UsageError(f"{method}: '{hyper.name}' takes {_ARTICLES[hyper.kind]}, not '{text:.40}'") from None
    if hyper.choices and parsed not in hyper.choices:
        raise UsageError(f"{method}: '{hyper.name}' must be one of {', '.join(hyper.choices)}, not '{text:.40}'")
    if isinstance(parsed, float) and not (math.isfinite(parsed) and parsed >= 0):  # a size, a radius or a weight
        raise UsageError(f"{method}: '{hyper.name}' must be finite and not negative, not {text}")
    if hyper.bounds and not hyper.bounds[0] <= float(parsed) <= hyper.bounds[1]:
        raise UsageError(f"{method}: '{hyper.name}' lies in [{hyper.bounds[0]:g}, {hyper.bounds[1]:g}], not at {text}")
    if hyper.kind == "int" and int(parsed) < 1:
        raise UsageError(f"{method}: '{hyper.name}' is a count, at least 1, not {text}")
    return parsed


def fits(value: object, kind: str) -> bool:
    if kind == "float":
        return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    return type(value) is _TYPES[kind]


def literal(node: ast.expr) -> Any:
    try:
        return ast.literal_eval(node)
    except ValueError:
        return None
