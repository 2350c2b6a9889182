"""Declared: what a method's card says that an update costs, read from its words."""

import ast
import re
from collections.abc import Mapping
from dataclasses import dataclass

from fatbench.methods import Value

_NUMBERS = ["no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"]
_END = re.compile(r"\n\s*\n|\n\s*[A-Z]\w*:")  # of a section: an empty line, or another section
_WHAT = {
    "forward": r"forwards?(?: pass(?:es)?)?",
    "input_backward": r"backwards?(?: pass(?:es)?)? to (?:the )?inputs?",
    "weight_backward": r"(?:backwards?(?: pass(?:es)?)? )?to (?:the )?weights?",
    "batch_norm_updates": r"batch[- ]norm updates?",
}
FORM = "Passes: steps + 1 forwards, steps + 1 backwards to inputs, 1 to weights; 2 batch-norm updates."


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


def section(docstring: str, name: str) -> str:
    """Return what the docstring's section `name` says, in one line, or "" if there is none."""
    _, found, rest = docstring.partition(f"{name}:")
    return " ".join(_END.split(rest, maxsplit=1)[0].split()) if found else ""


def declared_cost(docstring: str, hyper: Mapping[str, Value], updates: int = 1) -> Cost | None:
    """Return what the section `Passes` says, or None where it has not the form of `FORM`.

    Args:
        docstring: the card. Numbers may be words, or made of hyper-parameters by + - * / and brackets; other brackets
            are remarks. "per batch" means of all its optimiser steps together.
        hyper: values of the hyper-parameters; "batch" may be the number of images.
        updates: optimiser steps that a batch is worth.
    """
    text = section(docstring, "Passes")
    clauses = [clause.strip() for clause in re.split(r"[,;.:]|\band\b", _without_remarks(text, set(hyper)))]
    found = {name: _number_in(clauses, what, hyper) for name, what in _WHAT.items()}
    known = {name: number for name, number in found.items() if number is not None}
    share = updates if "per batch" in text else 1
    return Cost(**{name: number / share for name, number in known.items()}) if len(known) == len(_WHAT) else None


def _without_remarks(text: str, names: set[str]) -> str:
    def judged(match: re.Match[str]) -> str:
        words = set(re.findall(r"[^\W\d]\w*", match[1]))
        return match[0] if words <= names else " "

    return re.sub(r"\(([^()]*)\)", judged, text)


def _number_in(clauses: list[str], what: str, hyper: Mapping[str, Value]) -> float | None:
    matches = (
        re.fullmatch(rf"(.+?) {what}(?: (?:per|each|for|in)\b.*)?", " ".join(clause.split())) for clause in clauses
    )
    found = [number_of(match[1], hyper) for match in matches if match]
    return found[0] if len(found) == 1 else None


def number_of(text: str, hyper: Mapping[str, Value]) -> float | None:
    """Return the value of an expression such as "2 steps + one", or None if it is not one. Nothing is executed."""
    words = re.sub(r"[^\W\d]\w*", lambda word: _digits(word[0]), text)
    product = re.sub(r"(\d|\))\s+(?=[^\W\d]|\()", r"\1 * ", words)
    try:
        return _value(ast.parse(product, mode="eval").body, hyper)
    except (SyntaxError, ValueError, ZeroDivisionError, RecursionError, MemoryError):
        return None


def _digits(word: str) -> str:
    return str(_NUMBERS.index(word.lower())) if word.lower() in _NUMBERS else word


def _value(node: ast.expr, hyper: Mapping[str, Value]) -> float:
    if isinstance(node, ast.Constant) and isinstance(node.value, (int, float)):
        return float(node.value)
    if isinstance(node, ast.Name) and isinstance(hyper.get(node.id), (int, float)):
        return float(hyper[node.id])
    if isinstance(node, ast.BinOp):
        left, right = _value(node.left, hyper), _value(node.right, hyper)
        if isinstance(node.op, ast.Add):
            return left + right
        if isinstance(node.op, ast.Sub):
            return left - right
        if isinstance(node.op, ast.Mult):
            return left * right
        if isinstance(node.op, ast.Div):
            return left / right
    raise ValueError(ast.unparse(node))
