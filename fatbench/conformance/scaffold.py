"""Scaffold: a file to start a method from. No torch here."""

import ast
import importlib.util
import keyword
import re
from pathlib import Path

from fatbench import methods
from fatbench.errors import UsageError
from fatbench.io.atomic import make_folder

_TEMPLATE = Path(__file__).parent / "templates" / "my_idea.py"


def scaffold(name: str, folder: Path) -> Path:
    """Write a commented method that works, called `name`, into the folder, and return its path.

    Raises:
        UsageError: the name cannot be a method's, or the file is there already.
    """
    function = name.strip().removesuffix(".py").replace("-", "_")
    template = _TEMPLATE.read_text(encoding="utf-8")
    path = folder / f"{function}.py"
    _refuse(name, function, template, path)
    make_folder(folder)
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(re.sub(r"\bmy_idea\b", function, template))
    except FileExistsError:
        raise UsageError(f"{path} is there already: choose another name, or remove it") from None
    return path


def _refuse(name: str, function: str, template: str, path: Path) -> None:
    """Raise a UsageError that says why there cannot be a method file of this name, if so."""
    if not function.isidentifier() or keyword.iskeyword(function) or function.startswith("_"):
        raise UsageError(f"'{name}' cannot be a method's name: take letters, digits and -, as my-idea")
    if function.replace("_", "-") in methods.built_in():
        raise UsageError(f"fatbench has a method '{function.replace('_', '-')}': choose another name")
    if function in {node.id for node in ast.walk(ast.parse(template)) if isinstance(node, ast.Name)}:
        raise UsageError(f"'{function}' means something else in a method's file: choose another name")
    if path.exists():
        raise UsageError(f"{path} is there already: choose another name, or remove it")
    if _is_module(function):
        raise UsageError(f"there is a Python module '{function}', which {path.name} would hide: choose another name")


def _is_module(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except (ImportError, ValueError):  # one that is half there
        return True
