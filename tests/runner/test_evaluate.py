"""What evaluations come to together: findings, and the outcomes of images that several evaluations share."""

from pathlib import Path

import torch

from fatbench import runner
from fatbench.config.request import Request, RunOptions
from fatbench.config.resolve import resolve
from fatbench.evaluation.eval_result import EvalResult
from fatbench.record.parts import Finding
from fatbench.runner.evaluate import Results, SubsetResult

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
