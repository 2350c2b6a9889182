"""What a card's words say that an update costs."""

import pytest

from fatbench.conformance.declared import FORM, Cost, declared_cost, number_of, section

HYPER = {"steps": 10, "starts": 3, "batch": 8, "beta": 0.5, "mode": "at", "flag": True}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("3", 3), ("one", 1), ("no", 0), ("Twelve", 12), ("steps", 10), ("steps + 3", 13), ("2 steps + one", 21),
        ("2 (steps - 1)", 18), ("steps * starts", 30), ("steps starts", None), ("2 + steps / batch", 3.25),
        ("flag + 1", 2), ("mode", None), ("unknown + 1", None), ("a few", None), ("", None), ("1 / 0", None),
        ("steps ** 9", None), ("__import__('os')", None), ("steps.bit_length()", None), ("(" * 500, None),
    ],
)  # fmt: skip
def test_numbers(text: str, value: float | None) -> None:
    assert number_of(text, HYPER) == value


@pytest.mark.parametrize(
    ("said", "cost"),
    [
        ("1 forward, 1 backward to inputs, 1 to weights; one batch-norm update.", Cost(1, 1, 1, 1)),
        ("steps + 3 forwards, steps + 2 backwards to inputs, 2 to weights; 2 batch-norm updates (a, b).",
         Cost(13, 12, 2, 2)),
        ("1 forward, 1 backward to inputs, 1 to weights, per optimiser step; one batch-norm update.", Cost(1, 1, 1, 1)),
        ("3 forwards, 3 backwards\n        to inputs, 3 to weights; 6 batch-norm updates; all per batch.",
         Cost(1, 1, 1, 2)),
        ("4 forwards, 4 backwards to inputs, 3 to weights (going through it, costs one\n        of each); three "
         "batch-norm updates.", Cost(4, 4, 3, 3)),
        ("2 (steps + 1) forwards, 2 backwards to inputs and 1 to weights; no batch-norm updates.", Cost(22, 2, 1, 0)),
        ("2 forwards, 2 backwards to inputs, 1 to weights; one batch-norm update. Memory: an image.", Cost(2, 2, 1, 1)),
        ("a few forwards, 2 backwards to inputs, 1 to weights; 2 batch-norm updates.", None),
        ("2 forwards, 2 backwards to inputs; 2 batch-norm updates.", None),
        ("2 forwards, 1 forward, 2 backwards to inputs, 1 to weights; 2 batch-norm updates.", None),
        ("it depends.", None),
    ],
)  # fmt: skip
def test_costs(said: str, cost: Cost | None) -> None:
    docstring = f"A title.\n\n    Passes: {said}\n    Differences: 9 forwards."
    assert declared_cost(docstring, HYPER, updates=3) == cost


def test_a_card_without_the_section_declares_nothing() -> None:
    assert declared_cost("A title.", HYPER) is None
    assert section("A title.", "Passes") == ""


def test_the_form_that_authors_are_shown_is_one_that_is_read() -> None:
    assert declared_cost(FORM, HYPER) == Cost(11, 11, 1, 2)
