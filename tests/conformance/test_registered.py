"""What CI asks of every method of fatbench: that check-method finds nothing, and that the committed table is fresh."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fatbench import methods
from fatbench.conformance.checking import CHECKS, check

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("name", methods.built_in())
def test_every_method_of_fatbench_keeps_the_contract(name: str) -> None:
    report = check(name)
    assert [f"{finding.check}: {finding.detail}" for finding in report.failed] == []
    assert [finding.check for finding in report.findings] == list(CHECKS)
    assert {finding.status for finding in report.findings} <= {"ok", "declared"}
    assert report.facts is not None


@pytest.fixture
def script() -> Iterator[object]:
    sys.path.insert(0, str(ROOT / "scripts"))
    try:
        import methods_table

        yield methods_table
    finally:
        sys.path.pop(0)


def test_the_table_of_the_methods_is_fresh(script: Any) -> None:
    document = (ROOT / "docs" / "methods.md").read_text(encoding="utf-8")
    shown = document.split(script.BEGIN)[1].split(script.END)[0]
    assert shown.strip() == script.table().strip(), "run `make methods-table`"
    assert "| bs-trades |" in shown
