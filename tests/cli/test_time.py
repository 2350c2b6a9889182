"""`fatbench time`: what it prints, and what it says to mistakes."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cli.conftest import Said

Fatbench = Callable[..., Said]
QUICK = ("--runs", "2", "--batches", "1")


def test_a_row_for_each_method_with_ratios_to_the_first(fatbench: Fatbench, tmp_path: Path) -> None:
    said = fatbench("time", "standard", "bs-trades", *QUICK)
    assert said.code == 0
    heading, *rows = said.out.splitlines()  # a long processor's name makes it two lines
    assert heading.startswith("digits, small-cnn, batch 128, reference engine, fp32, ")
    cells = {row.split()[0]: row.split() for row in rows if row.startswith(("standard ", "bs-trades "))}
    assert (cells["standard"][1], cells["standard"][-1]) == ("3", "1")
    assert cells["bs-trades"][1] == "10"
    assert cells["bs-trades"][-1].endswith("]")
    assert "2 runs that took turns" in said.out
    assert list(tmp_path.iterdir()) == []  # nothing is recorded


def test_without_turns_ratios_have_no_interval(fatbench: Fatbench) -> None:
    said = fatbench("time", "standard", "fgsm", *QUICK, "--no-interleave")
    (row,) = [line for line in said.out.splitlines() if line.startswith("fgsm")]
    assert not row.rstrip().endswith("]")
    assert "ratios are rough" in said.out


@pytest.mark.parametrize("flags", [(), ("--engine", "fast", "--precision", "bf16", "--without", "fold")])
def test_json_is_all_that_stdout_gets(fatbench: Fatbench, flags: tuple[str, ...]) -> None:
    said = fatbench("time", "standard", "trades", *QUICK, "--set", "trades.steps=2", *flags, "--json")
    told = json.loads(said.out)
    standard, trades = told["methods"]
    assert told["environment"]["cpu_threads"] == 1
    assert trades["spec"]["train"]["hyper"]["steps"] == 2
    assert sum(trades["passes"].values()) == 11
    assert len(trades["seconds_per_update"]) == 2
    assert trades["estimate"]["low"] <= trades["estimate"]["median"] <= trades["estimate"]["high"]
    assert standard["ratio_to_first"]["median"] == 1.0
    assert {"fast", "fold"} <= {trades["spec"]["train"]["engine"], *trades["spec"]["train"]["without"]} or not flags


def test_a_method_and_a_model_of_her_own(fatbench: Fatbench, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(
        "import torch.nn.functional as F\n\n\n"
        "def mine(model, batch, ctx):\n    print('hello')\n    yield F.cross_entropy(model(batch.x), batch.y)\n"
    )
    said = fatbench("time", "./mine.py", "standard", *QUICK)
    assert "mine" in said.out
    assert "x mine" in said.out
    assert "hello" in said.err
    assert "hello" not in said.out


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        ((), "Missing argument"),
        (("bs-trade",), "no method 'bs-trade': there are "),
        (("fgsm", "--runs", "0"), "Invalid value for '--runs'"),
        (("fgsm", "--batches", "none"), "Invalid value for '--batches'"),
        (("fgsm", "--engine", "warp"), "--engine must be one of 'reference' or 'fast'"),
        (("fgsm", "--engine", "reference", "--without", "fold"), "--without and --compile are for --engine fast"),
        (("fgsm", "--without", "everything"), "--without must be one of"),
        (("fgsm", "--set", "alpha=-1"), "fgsm: 'alpha' must be finite and not negative, not -1"),
        (("fgsm", "--device", "tpu"), "no device 'tpu'"),
        (("fgsm", "--batch-size", "5000"), "--batch-size 5000 is more than the 1200 training images"),
    ],
)
def test_mistakes_end_in_one_line(fatbench: Fatbench, arguments: tuple[str, ...], line: str) -> None:
    said = fatbench("time", *arguments)
    assert line in said.complaint
    assert said.code == 2
