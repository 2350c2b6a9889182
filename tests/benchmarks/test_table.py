"""The table of `make bench`."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.table import Row, as_json, show
from fatbench.environment import describe_environment
from tests.benchmarks.test_check import CPU

ROWS = [
    Row("small-cnn", "trades", "fast fp32", 128, 27.0, [0.04, 0.05, 0.06], {"naive fp32": [2.0, 3.0, 4.0]}),
    Row("small-cnn", "trades", "naive fp32", 128, 39.0, [0.12, 0.15, 0.18], {}),
    Row("small-cnn", "standard", "fast fp32", 128, 3.0, [0.005], {"naive fp32": [1.5]}),
    Row("resnet18", "trades", "fast fp32", 16, 27.0, [4.0, 5.0], {"naive fp32": [1.4, 1.6]}),
]


def test_rows_have_their_medians_and_ratios() -> None:
    text = show(ROWS, describe_environment(CPU), width=80)
    rows = [" ".join(line.split()) for line in text.splitlines() if "fp32" in line and "method" not in line]
    standard, naive, fast = rows[:3]
    assert standard == "standard fast fp32 3 5 25,600 1 1.50 [1.50, 1.50] 1"
    assert naive == "trades naive fp32 39 150 853 3"
    assert fast == "fast fp32 27 50 2,560 10 3.00 [2.00, 4.00] 3"
    assert rows[3].startswith("trades fast fp32 27 4,500 3.56 ")
    assert "small-cnn, batch 128" in text
    assert "resnet18, batch 16" in text


def test_json_has_every_time() -> None:
    stored = json.loads(as_json(ROWS, describe_environment(CPU)))
    assert [row["seconds"] for row in stored["rows"]] == [row.seconds for row in ROWS]
    assert stored["environment"]["torch"]


@pytest.mark.slow
def test_the_benchmarks_end_in_the_table_and_in_json(tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "pytest",
        "benchmarks",
        "--benchmark-only",
        "--benchmark-quiet",
        "-p",
        "no:cacheprovider",
    ]
    chosen = ["-k", "small-cnn and fgsm-rs", "--bench-json", str(tmp_path / "bench.json")]
    done = subprocess.run(
        [*command, *chosen], cwd=Path(__file__).parents[2], capture_output=True, text=True, check=True
    )
    rows = {row["lane"]: row for row in json.loads((tmp_path / "bench.json").read_text())["rows"]}
    assert list(rows) == ["reference fp32", "fast fp32", "fast bf16", "naive fp32"]
    assert [row["passes"] for row in rows.values()] == [5, 5, 5, 6]
    rounds = [len(row["seconds"]) for row in rows.values()]
    assert rounds[-1] == sum(rounds[:-1])  # the loop ran before each of theirs
    assert all(len(row["speedups"]["naive fp32"]) == len(row["seconds"]) for row in list(rows.values())[:-1])
    assert "x naive fp32" in done.stdout
