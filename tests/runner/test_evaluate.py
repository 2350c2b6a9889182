"""What evaluations come to together: findings, and the outcomes of images that several evaluations share."""

from pathlib import Path

import torch

from fatbench import runner
from fatbench.config.parsing import PGD
from fatbench.config.request import Request, RunOptions
from fatbench.config.resolve import resolve
from fatbench.evaluation.eval_result import EvalResult
from fatbench.evaluation.forecast import autoattack_seconds
from fatbench.record import load
from fatbench.record.parts import Finding
from fatbench.runner.evaluate import Results, SubsetResult
from fatbench.runner.observer import Observer

SOFTMAX = """
from torch import nn
def softmax(num_classes): return nn.Sequential(nn.Flatten(), nn.Linear(64, num_classes), nn.Softmax(1))
"""


def eval_result(*broken_by: int, findings: tuple[Finding, ...] = ()) -> EvalResult:
    return EvalResult(("clean", "pgd"), torch.tensor(broken_by, dtype=torch.int8), findings=list(findings))


def test_results_are_narrowed_to_images_in_any_order_or_not_at_all() -> None:
    subset_result = SubsetResult(torch.tensor([7, 2, 9, 4]), eval_result(0, 1, 2, 0))

    def broken(*rows: int) -> list[int] | None:
        found = subset_result.only(torch.tensor(rows))
        return None if found is None else found.broken_by.tolist()

    assert broken(2, 9, 7) == [1, 2, 0]
    assert broken(4) == [0]
    assert broken(7, 2, 9, 4) == [0, 1, 2, 0]
    assert broken(4, 5) is None
    assert broken(10) is None
    assert Results({"pgd-5": subset_result}).of("clean", torch.tensor([2])) is None


def test_findings_name_the_evaluation_in_which_they_were_made() -> None:
    before, within = Finding(code="softmax-outputs", detail="a"), Finding(code="zero-gradient", detail="b")
    results = Results({"autoattack": SubsetResult(torch.tensor([0]), eval_result(0, findings=(within,)))}, [before])
    assert [(one.code, one.evaluation) for one in results.findings] == [
        ("softmax-outputs", None),
        ("zero-gradient", "autoattack"),
    ]


def test_a_run_checks_the_contract_before_its_evaluations(tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text(SOFTMAX)
    flags = {"epochs": 1, "evaluate": ["clean"], "model": f"{tmp_path / 'net.py'}:softmax"}
    (spec,) = resolve(Request(["standard"], settings=flags), "cpu")
    record = runner.run(spec, RunOptions(output=tmp_path, calibration_seconds=0.0))
    assert record.diagnostics is not None
    assert [finding.code for finding in record.diagnostics.findings] == ["softmax-outputs"]


def test_the_forecast_is_what_autoattack_took_in_the_committed_runs() -> None:
    ratios = []
    for path in (Path(__file__).parents[2] / "results").glob("*.json"):
        scores = load(path).scores
        expected = autoattack_seconds(scores["autoattack"].total, 10, PGD(steps=20), scores["pgd-20"])
        ratios.append(scores["autoattack"].seconds / max(expected, 1e-9))
    ratios.sort()
    assert len(ratios) > 50
    assert 0.8 < ratios[len(ratios) // 10] < ratios[-len(ratios) // 10] < 1.3


class _Expecting(Observer):
    def __init__(self) -> None:
        self.said: list[tuple[str, int, str]] = []
        self.done: list[str] = []

    def expecting(self, name: str, images: int, seconds: float, by: str) -> None:
        assert seconds >= 0
        assert self.done[-1] == by
        self.said.append((name, images, by))

    def scored(self, name: str, score: object) -> None:
        self.done.append(name)


def test_autoattack_is_forecast_before_it_begins_where_pgd_has_shown_the_pace(tmp_path: Path) -> None:
    def said(*evaluations: str, **more: object) -> list[tuple[str, int, str]]:  # all images fall at once
        flags = {"epochs": 1, "eps": "0.9", "evaluate": evaluations, **more}
        (spec,) = resolve(Request(["standard"], settings=flags), "cpu")
        expecting = _Expecting()
        runner.run(spec, RunOptions(output=tmp_path, calibration_seconds=0.0), observer=expecting)
        return expecting.said

    assert said("pgd-2", "autoattack:n=2") == [("autoattack", 2, "pgd-2")]
    assert said("clean", "autoattack:n=2") == []
    assert said("pgd-2", "autoattack:n=2", eval_engine="fast") == []
