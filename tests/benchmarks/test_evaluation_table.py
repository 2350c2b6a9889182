"""AutoAttack's table of `make bench`, and the attacks that are shortened for it."""

import json

import pyautoattack
import torch

from benchmarks.evaluation_table import EvaluationRow, show_evaluations
from benchmarks.shortened import shortened
from benchmarks.table import as_json
from fatbench.environment import describe_environment
from tests.benchmarks.test_check import CPU

ROWS = [
    EvaluationRow("small-cnn", "the library itself", 100, 0, 0.2, [10.0, 12.0], [], 41, 100),
    EvaluationRow("small-cnn", "fast, bf16, folded", 100, 0, 0.2, [5.0], [2.4], 40, 99),
]


def test_rows_have_ratio_and_agreement() -> None:
    lines = [" ".join(line.split()) for line in show_evaluations(ROWS, "some machine", width=80).splitlines()]
    assert "small-cnn the library itself 100 0 0.2 11 41 100 2" in lines
    assert "fast, bf16, folded 100 0 0.2 5 2.40 40 99 1" in lines
    assert any("some machine" in line for line in lines)


def test_json_has_them() -> None:
    stored = json.loads(as_json([], describe_environment(CPU), ROWS))
    assert [row["seconds"] for row in stored["evaluations"]] == [[10.0, 12.0], [5.0]]


def test_shortened_attacks_are_shorter_only_inside() -> None:
    def steps() -> list[int]:
        stock = pyautoattack.AutoAttack(torch.nn.Identity(), seed=0)
        return [stock.apgd.n_iter, stock.apgd_targeted.n_iter, stock.fab.n_iter, stock.square.n_queries]

    with shortened(0.1):
        assert steps() == [10, 10, 10, 500]
    assert steps() == [100, 100, 100, 5000]
