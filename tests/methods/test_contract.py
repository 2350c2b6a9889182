"""What every method file must keep beyond `fatbench check-method`; what a user is told of one that does not load.

tests/conformance has the contract itself: every method passes its checks, and every check finds its mutants.
"""

import ast
import re

import pytest

from fatbench import methods
from fatbench.errors import UsageError

from . import make_batches, make_context, smooth_net

NAMES = methods.names()
every_method = pytest.mark.parametrize("name", NAMES)
ALLOWED = re.compile(r"(torch|math|collections|dataclasses|typing|fatbench\.(interface|threat|ops))(\.|$)")


def imports_beyond(source):
    """Return what a method's source imports beyond torch, a few standard modules and what a method is given."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom) and node.level:
            found.append("relative import")
        elif isinstance(node, ast.ImportFrom):
            found += [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
    return [what for what in found if not ALLOWED.match(what)]


@every_method
def test_the_source_reaches_for_nothing_but_its_arguments(name):
    assert imports_beyond(methods.describe(name).source) == []


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("from fatbench.training import schedule", "fatbench.training.schedule"),
        ("from fatbench import data", "fatbench.data"),
        ("import fatbench.models.resnet", "fatbench.models.resnet"),
        ("import numpy", "numpy"),
        ("from . import trades", "relative import"),
        ("from ..training import budget", "relative import"),
    ],
)
def test_the_scan_of_imports_finds(line, found):
    assert imports_beyond(f"import torch\nfrom fatbench.ops import kl\n{line}\n") == [found]


@every_method
def test_the_title_is_a_sentence(name):
    assert methods.describe(name).title.endswith((".", ")"))


# What a user is told

OWN = '''
from fatbench.ops import input_gradient


def my_idea(model, batch, ctx, *, size: float = 0.5, often: int = 2, loud: bool = False, word: str = "sum"):
    """My idea.

    Args:
        size: how far to go,
            in units of eps.
        often: how often.
    """
    for _ in range(often):
        yield size * (model(batch.x) ** 2).mean()
'''


@pytest.fixture
def write(tmp_path):
    """Write a method file called my_idea.py, and return its path."""

    def write_source(source):
        path = tmp_path / "my_idea.py"
        path.write_text(source)
        return str(path)

    return write_source


def refusal(name, **hyper):
    with pytest.raises(UsageError) as error:
        methods.load(name, **hyper)
    assert error.value.exit_code == 2
    return str(error.value)


def test_an_unknown_method_is_told_what_exists():
    there_are = f"there are {', '.join(NAMES)}, or the path of a .py file"
    assert refusal("bs-trade") == f"no method 'bs-trade': {there_are}"
    assert refusal("bs_trades") == f"no method 'bs_trades': {there_are}"
    assert refusal("") == f"no method '': {there_are}"
    assert "bs-trades, " in there_are


def test_an_unknown_hyperparameter_is_told_what_the_method_has():
    assert refusal("bs-trades", bta=8) == "bs-trades has no 'bta'; it has steps, alpha, beta, gamma"
    assert refusal("standard", alpha=1.0) == "standard has no 'alpha'; it has no hyper-parameters"


@pytest.mark.parametrize(
    ("name", "hyper", "message"),
    [
        ("bs-trades", {"beta": float("nan")}, "bs-trades: 'beta' must be finite and not negative, not nan"),
        ("bs-trades", {"beta": "-inf"}, "bs-trades: 'beta' must be finite and not negative, not -inf"),
        ("bs-trades", {"beta": "ten"}, "bs-trades: 'beta' takes a number, not 'ten'"),
        ("bs-trades", {"beta": True}, "bs-trades: 'beta' takes a number, not 'True'"),
        ("bs-trades", {"beta": ""}, "bs-trades: 'beta' takes a number, not ''"),
        ("pgd-at", {"steps": 2.5}, "pgd-at: 'steps' takes a whole number, not '2.5'"),
        ("pgd-at", {"steps": "many" * 20}, f"pgd-at: 'steps' takes a whole number, not '{'many' * 10}'"),
        ("pgd-at", {"steps": 0}, "pgd-at: 'steps' is a count, at least 1, not 0"),
        ("free-at", {"replays": "-3"}, "free-at: 'replays' is a count, at least 1, not -3"),
    ],
)
def test_a_value_that_does_not_fit_is_refused(name, hyper, message):
    assert refusal(name, **hyper) == message


def test_settings_replace_defaults_and_text_is_read_by_type():
    assert methods.load("bs-trades").hyper == {"steps": 1, "alpha": 1.0, "beta": 10.0, "gamma": 1.0}
    assert methods.load("bs-trades", steps="3", gamma="5e-1").hyper == {
        "steps": 3, "alpha": 1.0, "beta": 10.0, "gamma": 0.5,
    }  # fmt: skip
    assert type(methods.load("bs-trades", beta=8).hyper["beta"]) is float


def test_a_file_of_ones_own_is_a_method(write):
    path = write(OWN)
    method = methods.load(path, often="3", loud="yes", word=" mean ")
    assert method.name == "my-idea"
    assert method.source == OWN
    assert method.hyper == {"size": 0.5, "often": 3, "loud": True, "word": "mean"}
    assert method.description.hyper["size"].meaning == "how far to go, in units of eps."
    assert method.description.title == "My idea."
    model, batch = smooth_net(), make_batches()[0]
    losses = list(method(model, batch, make_context("linf")))
    assert [loss.shape for loss in losses] == [()] * 3
    assert refusal(path, loud="maybe") == "my-idea: 'loud' takes true or false, not 'maybe'"


def test_listing_a_file_does_not_run_it(write):
    description = methods.describe(write(f"raise RuntimeError('I was run')\n{OWN}"))
    assert list(description.hyper) == ["size", "often", "loud", "word"]


def test_a_file_that_is_not_there_is_named(tmp_path):
    assert refusal(f"{tmp_path}/nothing.py") == f"no method file {tmp_path}/nothing.py"


def test_a_file_without_the_function_is_told_its_name(write):
    path = write(OWN.replace("def my_idea", "def another"))
    assert refusal(path) == f"{path} holds no method: it needs a function 'def my_idea(model, batch, ctx, *, ...)'"


def test_a_file_that_fails_on_import_says_that_it_did(write):
    path = write(f"import no_such_module_anywhere\n{OWN}")
    assert refusal(path) == f"{path} fails to import: ModuleNotFoundError: No module named 'no_such_module_anywhere'"
    path = write(f"1 / 0\n{OWN}")
    assert refusal(path) == f"{path} fails to import: ZeroDivisionError: division by zero"


def test_a_file_that_is_no_python_says_so(write):
    path = write("def my_idea(:\n")
    assert refusal(path).startswith(f"{path} is not valid Python: ")


def test_a_function_that_returns_its_loss_is_told_to_yield_it(write):
    path = write(OWN.replace("yield", "return"))
    says = "'my_idea' yields no losses; a method says 'yield loss' once per optimiser step"
    assert refusal(path) == f"{path}: {says}"


@pytest.mark.parametrize("argument", ["size=0.5", "size: float", "size: list = 0.5", "size: 'float' = 0.5"])
def test_a_hyperparameter_needs_a_type_and_a_default(write, argument):
    path = write(OWN.replace("size: float = 0.5", argument))
    assert refusal(path) == f"{path}: 'size' needs a default and one of the types int, float, bool, str"


@pytest.mark.parametrize(
    ("argument", "kind"),
    [
        ("size: float = 8 / 255", "a number"),  # would have to be run
        ("size: float = 1e999", "a number"),
        ("size: float = True", "a number"),
        ("size: int = 1.5", "a whole number"),
        ("size: bool = 1", "true or false"),
        ("size: str = 3", "a word"),
    ],
)
def test_a_default_must_fit_its_type_and_be_readable_without_running_the_file(write, argument, kind):
    path = write(OWN.replace("size: float = 0.5", argument))
    assert refusal(path) == f"{path}: the default of 'size' is not {kind}"


@pytest.mark.parametrize("argument", ["size: int = 0", "size: float = -0.5"])
def test_a_default_keeps_the_rules_that_values_keep(write, argument):
    assert "too small for a count or size" in refusal(write(OWN.replace("size: float = 0.5", argument)))


@pytest.mark.parametrize("line", ['NORMS = ("linf", "l2")', 'NORMS: tuple[str, ...] = ("linf", "l2")'])
def test_norms_are_declared_with_or_without_a_type(write, line):
    assert methods.describe(write(f"{line}\n{OWN}")).norms == ("linf", "l2")
    with pytest.raises(UsageError, match="NORMS is a tuple of 'linf' and 'l2', not 'l2'"):
        _ = methods.describe(write(f"NORMS = 'l2'\n{OWN}")).norms


def test_a_function_that_does_not_take_what_it_is_given_is_told(write):
    path = write("def my_idea(model, batch): yield 0")
    form = "def my_idea(model, batch, ctx, *, ...)"
    assert refusal(path) == f"{path}: 'my_idea' does not take what a method is given: '{form}'"


def test_a_file_may_use_dataclasses_and_hyphens_and_may_not_exit(write, tmp_path):
    dataclass = "from __future__ import annotations\nimport dataclasses\n@dataclasses.dataclass\nclass State: n: int\n"
    hyphened = tmp_path / "my-idea.py"
    hyphened.write_text(dataclass + OWN)
    assert methods.load(str(hyphened)).name == "my-idea"
    path = write(f"import sys\nsys.exit(3)\n{OWN}")
    assert refusal(path) == f"{path} fails to import: SystemExit: 3"
