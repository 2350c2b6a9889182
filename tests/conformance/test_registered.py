"""What CI asks of every method of fatbench: that check-method finds nothing, and that the committed table is fresh."""

from pathlib import Path

import pytest

from fatbench import methods
from fatbench.conformance.checking import CHECKS, check
from scripts import methods_table

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("name", methods.built_in())
def test_every_method_of_fatbench_keeps_the_contract(name: str) -> None:
    report = check(name)
    assert [f"{finding.check}: {finding.detail}" for finding in report.failed] == []
    assert [finding.check for finding in report.findings] == list(CHECKS)
    assert {finding.status for finding in report.findings} <= {"ok", "declared"}
    assert report.facts is not None


def test_the_table_of_the_methods_is_fresh() -> None:
    document = (ROOT / "docs" / "methods.md").read_text(encoding="utf-8")
    shown = document.split(methods_table.BEGIN)[1].split(methods_table.END)[0]
    assert shown.strip() == methods_table.table().strip(), "run `make methods-table`"
    assert "| bs-trades |" in shown
