"""What a method's PASSES says that an optimiser step costs."""

import ast
from typing import Any

import pytest

from fatbench.methods._cost import FORM, Cost, declared_cost

HYPER = {"steps": 10, "starts": 3, "beta": 0.5, "mode": "at", "flag": True}


def cost(**changed: Any) -> Cost | None:
    one = {"forward": 1, "inputs": 1, "weights": 1, "batch_norm": 1}
    return declared_cost(one | changed, HYPER, batch_size=8)


@pytest.mark.parametrize(
    ("said", "value"),
    [
        (3, 3), (0.5, 0.5), ("3", 3), ("steps", 10), ("steps + 3", 13), ("2 * steps + 1", 21), ("2 * (steps - 1)", 18),
        ("steps * starts", 30), ("2 + steps / batch", 3.25), ("flag + 1", 2), ("steps starts", None), ("mode", None),
        ("unknown + 1", None), ("a few", None), ("", None), ("1 / 0", None), ("steps ** 9", None), (None, None),
        ("__import__('os')", None), ("steps.bit_length()", None), ("(" * 500, None), ([1], None),
    ],
)  # fmt: skip
def test_numbers(said: object, value: float | None) -> None:
    found = cost(forward=said)
    assert (found and found.forward) == value


@pytest.mark.parametrize("passes", [None, {}, {"forward": 1}, 3, "2 forwards", [1, 1, 1, 1]])
def test_what_is_not_of_the_form_declares_nothing(passes: object) -> None:
    assert declared_cost(passes, HYPER, batch_size=8) is None
    assert cost(more=1) is None


def test_the_form_that_authors_are_shown_is_one_that_is_read() -> None:
    assert declared_cost(ast.literal_eval(FORM.partition("= ")[2]), HYPER, batch_size=8) == Cost(11, 11, 1, 2)
