"""Records that hypothesis draws: anything in any place of a sound one, and any JSON at all."""

import json
from contextlib import suppress
from copy import deepcopy
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from . import specimens
from .conftest import Answer
from .test_records import leaves

SOUND = json.loads(specimens.record_content())
PLACES = sorted(leaves(SOUND), key=str)
TEXT = st.text(max_size=30) | st.sampled_from(
    ["\x1b[2J", "\u202e", "nan", "1e999", "../..", "[link=x]y[/link]", "=1+1"]
)
NUMBER = st.integers() | st.floats() | st.sampled_from([2**63, -(2**63), 1e308, 5e-324, -0.0])
ANYTHING = st.recursive(
    st.none() | st.booleans() | NUMBER | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=8,
)
SETTINGS = settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def ask(answer: Answer, folder: Path, content: Any) -> None:
    # What cannot be written as JSON by other programs either, such as half a surrogate, is escaped.
    (folder / "bad.json").write_text(json.dumps(content))
    answer("compare", "bad.json")
    answer("compare", "bad.json", "bad.json", "--paired", "--format", "markdown")
    answer("show", "bad.json")


@SETTINGS
@given(changes=st.lists(st.tuples(st.sampled_from(PLACES), ANYTHING), min_size=1, max_size=3))
def test_anything_in_any_place(answer: Answer, tmp_path: Path, changes: list[tuple[tuple[Any, ...], Any]]) -> None:
    whole = deepcopy(SOUND)
    for path, value in changes:
        node = whole
        with suppress(KeyError, IndexError, TypeError):  # an earlier change has taken the place away
            for key in path[:-1]:
                node = node[key]
            node[path[-1]] = value
    ask(answer, tmp_path, whole)


@SETTINGS
@given(content=ANYTHING)
def test_anything_at_all(answer: Answer, tmp_path: Path, content: Any) -> None:
    ask(answer, tmp_path, content)


@SETTINGS
@given(
    lr=st.floats(min_value=5e-324, allow_infinity=False),
    seconds=st.floats(0, 1e12),
    seed=st.integers(0, 2**32 - 1),
    names=st.tuples(TEXT.filter(bool), TEXT.filter(bool), TEXT.filter(bool)),
    counts=st.tuples(st.integers(0, 2**63 - 1), st.integers(1, 2**63 - 1)).map(sorted),
)
def test_extremes_of_what_is_sound(
    answer: Answer, tmp_path: Path, lr: float, seconds: float, seed: int, names: tuple[str, ...], counts: list[int]
) -> None:
    """What validation lets through is shown, however far from what anybody meant."""
    whole = deepcopy(SOUND)
    method, dataset, model = names
    whole["spec"] |= {"lr": lr, "seed": seed, "method": method, "dataset": dataset, "model": model}
    whole["timing"]["train"] = seconds
    whole["scores"] = {"pgd-20": {"correct": counts[0], "total": max(counts[1], 1)}}
    ask(answer, tmp_path, whole)
