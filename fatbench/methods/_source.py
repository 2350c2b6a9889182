"""What a method's source says about itself, read without running it."""

import ast
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fatbench.config.spec import RunSpec
from fatbench.errors import UsageError
from fatbench.io.safe_read import read_file
from fatbench.methods._cost import Cost, declared_cost
from fatbench.methods._hyper import Hyperparameter, Value, fits, hyperparameters, literal, parse

_LARGEST = 2**24  # bytes
_GIVEN = ["model", "batch", "ctx"]


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

    def cost(self, hyper: Mapping[str, Value], batch_size: int) -> Cost | None:
        """Return what PASSES declares of an optimiser step; None where it is not there, or not of its form."""
        return declared_cost(self.constants.get("PASSES"), hyper, batch_size)

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
        if not fits(reach, "float") or reach < 1:
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
    def several_updates(self) -> str:
        """Why a batch is worth several optimiser steps that cannot be taken apart, or "" when it is worth one."""
        return str(self.constants.get("SEVERAL_UPDATES", ""))

    @property
    def smooths(self) -> bool:
        """Whether its loss uses `ctx.smoothing`: without, --label-smoothing would change nothing."""
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
        changed = {key: parse(self.name, self.hyper[key], value) for key, value in settings.items()}
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
        source = read_file(path, _LARGEST).decode("utf-8")
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
        hyper=hyperparameters(path, found, docstring),
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


def _constants(tree: ast.Module) -> dict[str, Any]:
    found = {}
    for node in tree.body:
        if isinstance(node, (ast.Assign, ast.AnnAssign)) and node.value is not None:
            target = node.targets[0] if isinstance(node, ast.Assign) else node.target
            if isinstance(target, ast.Name) and target.id.isupper():
                found[target.id] = literal(node.value)
    return {name: value for name, value in found.items() if value is not None}


def check_compatible(method: Description, spec: RunSpec) -> None:
    """Raise where the method is not made for what the spec asks of it.

    Raises:
        UsageError: in one line, which names the flag.
    """
    if spec.norm not in method.norms:
        raise UsageError(f"{method.name} is defined for --norm {', '.join(method.norms)} only")
    if spec.training.compile and method.not_compilable:
        raise UsageError(f"--compile: {method.name} cannot be compiled: {method.not_compilable}")
    if spec.training.awp is not None and method.several_updates:
        raise UsageError(f"--awp: {method.name} takes several steps of a batch: {method.several_updates}")
    if spec.training.label_smoothing is not None and not method.smooths:
        raise UsageError(f"--label-smoothing: {method.name} does not use ctx.smoothing, so it would change nothing")
