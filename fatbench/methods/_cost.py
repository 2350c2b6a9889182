"""What an optimiser step of a method costs, as its file declares it by PASSES. No torch here."""

import ast
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from fatbench.methods._hyper import Value

FORM = 'PASSES = {"forward": "steps + 1", "inputs": "steps + 1", "weights": 1, "batch_norm": 2}'


@dataclass(frozen=True)
class Cost:
    """Passes per image, and updates of batch norm's statistics, both per optimiser step."""

    forward: float
    input_backward: float
    weight_backward: float
    batch_norm_updates: float

    @property
    def passes(self) -> str:
        """The passes in words."""
        return f"{self.forward:g} forward, {self.input_backward:g} to inputs, {self.weight_backward:g} to weights"


KEYS = dict(zip(("forward", "inputs", "weights", "batch_norm"), (field.name for field in fields(Cost)), strict=True))


def declared_cost(passes: Any, hyper: Mapping[str, Value], batch_size: int) -> Cost | None:
    """Return what PASSES comes to, or None where it has not the form of `FORM`.

    Args:
        passes: numbers by kind, or expressions of hyper-parameters and "batch" with + - * / and brackets.
    """
    if not isinstance(passes, dict) or set(passes) != set(KEYS):
        return None
    try:
        known = {"batch": batch_size, **hyper}
        trees = {name: ast.parse(str(passes[key]), mode="eval").body for key, name in KEYS.items()}
        return Cost(**{name: _value(tree, known) for name, tree in trees.items()})  # nothing is executed
    except (SyntaxError, ValueError, ZeroDivisionError, RecursionError, MemoryError):
        return None


def _value(node: ast.expr, known: Mapping[str, Value]) -> float:
    if isinstance(node, ast.Constant) and isinstance(node.value, (int, float)):
        return float(node.value)
    if isinstance(node, ast.Name) and isinstance(known.get(node.id), (int, float)):
        return float(known[node.id])
    if isinstance(node, ast.BinOp):
        left, right = _value(node.left, known), _value(node.right, known)
        if isinstance(node.op, ast.Add):
            return left + right
        if isinstance(node.op, ast.Sub):
            return left - right
        if isinstance(node.op, ast.Mult):
            return left * right
        if isinstance(node.op, ast.Div):
            return left / right
    raise ValueError(ast.unparse(node))
