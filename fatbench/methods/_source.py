"""What a method's source says about itself, read without running it."""

import ast
import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fatbench.errors import UsageError
from fatbench.regular import read_regular

_TYPES: dict[str, type] = {"int": int, "float": float, "bool": bool, "str": str}
_ARTICLES = {"int": "a whole number", "float": "a number", "bool": "true or false", "str": "a word"}
_LARGEST = 2**24  # bytes
_GIVEN = ["model", "batch", "ctx"]
Value = bool | int | float | str


@dataclass(frozen=True)
class Hyperparameter:
    """One keyword-only argument of a method."""

    name: str
    kind: str  # int, float, bool or str
    default: Value
    meaning: str  # from the docstring's Args
    choices: tuple[str, ...] = ()  # of a Literal; empty: any


@dataclass(frozen=True)
class Description:
    """What a method's source says about it, without running it."""

    name: str
    path: Path
    source: str
    function: str
    docstring: str
    hyper: dict[str, Hyperparameter]
    constants: dict[str, Any]  # NORMS, LEAVES_BOX, ...: declared exceptions, each with its reason
    module: str = ""  # package.module, if an installed package brings it ...
    package: str = ""  # ... and that package, with its version

    @property
    def title(self) -> str:
        """The docstring's first line: what it is, with its citation."""
        return self.docstring.partition("\n")[0]

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.source.encode()).hexdigest()

    @property
    def norms(self) -> tuple[str, ...]:
        """The norms in which the method is defined; L-infinity unless NORMS says more."""
        norms = self.constants.get("NORMS", ("linf",))
        if not isinstance(norms, tuple) or not norms or not set(norms) <= {"linf", "l2"}:
            raise UsageError(f"{self.path}: NORMS is a tuple of 'linf' and 'l2', not {norms!r}")
        return norms

    @property
    def leaves_box(self) -> str:
        """Why the model may be shown pixels outside [0, 1] during the attack, or "" when it never is."""
        return str(self.constants.get("LEAVES_BOX", ""))

    @property
    def reach(self) -> float:
        """How far from the image, in eps, the images that it trains on may lie: 1 unless REACH says more."""
        reach = self.constants.get("REACH", 1.0)
        if not _fits(reach, "float") or reach < 1:
            raise UsageError(f"{self.path}: REACH is a number of eps, at least 1, not {reach!r}")
        return float(reach)

    @property
    def trains_outside(self) -> str:
        """Why the images that it trains on may have pixels outside [0, 1], or "" when none has."""
        return str(self.constants.get("TRAINS_OUTSIDE", ""))

    @property
    def not_compilable(self) -> str:
        """Why its network cannot be compiled, or "" when it can."""
        return str(self.constants.get("NOT_COMPILABLE", ""))

    @property
    def smooths(self) -> bool:
        """Whether its loss heeds `ctx.smoothing`: without, --label-smoothing would change nothing."""
        nodes = ast.walk(ast.parse(self.source))
        return any(isinstance(node, ast.Attribute) and node.attr == "smoothing" for node in nodes)

    @property
    def not_capturable(self) -> str:
        """Why an update cannot be one CUDA graph, or "" when it can."""
        return str(self.constants.get("NOT_CAPTURABLE", ""))

    @property
    def touches_data(self) -> bool:
        """Whether it uses an attribute `data`: weights changed through it change without torch noticing."""
        nodes = ast.walk(ast.parse(self.source))
        return any(isinstance(node, ast.Attribute) and node.attr == "data" for node in nodes)

    def complete(self, settings: Mapping[str, str | Value]) -> dict[str, Value]:
        """Return every hyper-parameter: the paper's defaults, changed by `settings` (text is parsed by type).

        Raises:
            UsageError: an unknown name, or a value that does not fit.
        """
        unknown = next((key for key in settings if key not in self.hyper), None)
        if unknown is not None:
            raise UsageError(f"{self.name} has no '{unknown}'; it has {', '.join(self.hyper) or 'no hyper-parameters'}")
        changed = {key: _parse(self.name, self.hyper[key], value) for key, value in settings.items()}
        return {name: changed.get(name, one.default) for name, one in self.hyper.items()}


def read(path: Path, function: str | None = None) -> Description:
    """Return what the method in the file `path` says about itself.

    Args:
        path: a Python file.
        function: the method's name in it; the file's own name if None.

    Raises:
        UsageError: the file cannot be read, or does not hold a method.
    """
    try:
        source = read_regular(path, _LARGEST).decode("utf-8")
        tree = ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:  # the last two: too deeply nested
        raise UsageError(f"{path} is not valid Python: {error}") from None
    found = _method_function(path, tree, function or path.stem.replace("-", "_"))
    docstring = ast.get_docstring(found) or ""
    return Description(
        name=found.name.replace("_", "-"),
        path=path,
        source=source,
        function=found.name,
        docstring=docstring,
        hyper=_hyperparameters(path, found, docstring),
        constants=_constants(tree),
    )


def _method_function(path: Path, tree: ast.Module, wanted: str) -> ast.FunctionDef:
    form = f"def {wanted}(model, batch, ctx, *, ...)"
    for node in tree.body:
        if isinstance(node, ast.FunctionDef) and node.name == wanted:
            if [argument.arg for argument in node.args.args] != _GIVEN:
                raise UsageError(f"{path}: '{wanted}' does not take what a method is given: '{form}'")
            return node
    raise UsageError(f"{path} holds no method: it needs a function '{form}'")


def _hyperparameters(path: Path, function: ast.FunctionDef, docstring: str) -> dict[str, Hyperparameter]:
    found = {}
    for argument, default in zip(function.args.kwonlyargs, function.args.kw_defaults, strict=True):
        choices = _choices(argument.annotation)
        kind = "str" if choices else argument.annotation.id if isinstance(argument.annotation, ast.Name) else ""
        if kind not in _TYPES or default is None:
            raise UsageError(f"{path}: '{argument.arg}' needs a default and one of the types {', '.join(_TYPES)}")
        value = _literal(default)
        if not _fits(value, kind):
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
    words = _literal(annotation.slice)
    found = words if isinstance(words, tuple) else (words,)
    return found if all(isinstance(word, str) for word in found) else ()


def _constants(tree: ast.Module) -> dict[str, Any]:
    found = {}
    for node in tree.body:
        if isinstance(node, (ast.Assign, ast.AnnAssign)) and node.value is not None:
            target = node.targets[0] if isinstance(node, ast.Assign) else node.target
            if isinstance(target, ast.Name) and target.id.isupper():
                found[target.id] = _literal(node.value)
    return {name: value for name, value in found.items() if value is not None}


def _literal(node: ast.expr) -> Any:
    try:
        return ast.literal_eval(node)
    except ValueError:
        return None


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


def _parse(method: str, hyper: Hyperparameter, value: str | Value) -> Value:
    text = str(value).strip()
    try:
        if hyper.kind == "bool":
            return {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}[text.lower()]
        parsed: Value = _TYPES[hyper.kind](text)
    except (KeyError, ValueError):
        raise UsageError(f"{method}: '{hyper.name}' takes {_ARTICLES[hyper.kind]}, not '{text:.40}'") from None
    if hyper.choices and parsed not in hyper.choices:
        raise UsageError(f"{method}: '{hyper.name}' is one of {', '.join(hyper.choices)}, not '{text:.40}'")
    if isinstance(parsed, float) and not (math.isfinite(parsed) and parsed >= 0):  # a size, a radius or a weight
        raise UsageError(f"{method}: '{hyper.name}' must be finite and not negative, not {text}")
    if hyper.kind == "int" and int(parsed) < 1:
        raise UsageError(f"{method}: '{hyper.name}' is a count, at least 1, not {text}")
    return parsed


def _fits(value: object, kind: str) -> bool:
    if kind == "float":
        return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    return type(value) is _TYPES[kind]
