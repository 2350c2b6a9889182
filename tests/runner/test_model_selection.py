"""Selection on validation images: the best weights are scored, and the last ones beside them."""

from pathlib import Path

import pytest
import torch

from fatbench.config.spec import RunSpec
from fatbench.record.parts import Probe, Score
from fatbench.runner.model_selection import ModelSelector
from tests.runner.test_runner import make_spec, run


def _kept(spec: RunSpec, *history: tuple[int, bool]) -> tuple[str, int] | None:
    """Policy and weight that are chosen after probes of these accuracies, the weight being the epoch's number."""
    model = torch.nn.Linear(1, 1, bias=False)
    model_selector = ModelSelector(model, spec)
    for epoch, (correct, overfitted) in enumerate(history, start=1):
        torch.nn.init.constant_(model.weight, epoch)
        scores = {"pgd-10": Score(correct=correct, total=100), "clean": Score(correct=100 - correct, total=100)}
        probe = Probe(epoch=epoch, step=epoch, train_seconds=float(epoch), lr=0.1, loss=1.0, scores=scores)
        model_selector.update(probe, overfitted=overfitted)
    chosen = model_selector.choose()
    return None if chosen is None else (chosen[0].policy, int(chosen[1]["weight"]))


@pytest.mark.parametrize(
    ("flags", "history", "chosen"),
    [
        ({}, [(50, False), (10, False)], None),
        ({"select": "best"}, [(20, False), (50, False), (50, False), (40, False)], ("best", 3)),
        ({"select": "best"}, [(20, False), (50, False)], None),  # the last ones are the best
        ({"select": "best", "select_on": "clean"}, [(20, False), (50, False)], ("best", 1)),
        ({"on_overfitting": "restore"}, [(40, False), (45, False), (5, True)], ("restored", 2)),
        ({"on_overfitting": "restore"}, [(40, False), (45, False)], None),
        ({"on_overfitting": "restore"}, [(40, True)], None),  # nothing to go back to
        ({"on_overfitting": "stop"}, [(40, False), (5, True)], None),
        ({"select": "best", "on_overfitting": "restore"}, [(45, False), (40, False), (5, True)], ("best", 1)),
    ],
)
def test_what_is_chosen(flags: dict[str, str], history: list[tuple[int, bool]], chosen: tuple[str, int] | None) -> None:
    assert _kept(make_spec("standard", **flags), *history) == chosen


def test_both_numbers_stay_in_the_record(tmp_path: Path) -> None:
    # An undefended model's robustness is best at the very beginning, so best and last differ.
    spec = make_spec("standard", epochs=6, select="best", evaluate=["clean", "pgd-3"])
    record = run(spec, output=tmp_path)
    assert record.selection is not None
    best = max(probe.scores["pgd-10"].accuracy for probe in record.history)
    (chosen,) = [probe for probe in record.history if probe.epoch == record.selection.epoch]
    assert chosen.scores["pgd-10"].accuracy == best
    assert (record.selection.policy, record.selection.on) == ("best", "pgd-10")
    assert record.selection.last_scores.keys() == record.scores.keys()
    last = run(make_spec("standard", epochs=6, evaluate=["clean", "pgd-3"]), output=tmp_path)
    assert {name: score.correct for name, score in last.scores.items()} == {
        name: score.correct for name, score in record.selection.last_scores.items()
    }
    assert last.selection is not None
    assert (last.selection.policy, last.selection.epoch, last.selection.last_scores) == ("last", 6, {})
