"""The engine's flags on the command line: what a run does with them, and what is said of those that cannot be."""

import json
from collections.abc import Callable
from typing import get_args

import pytest

from fatbench.record import load
from fatbench.spec import Toggle
from tests.cli.conftest import TINY, Said

Fatbench = Callable[..., Said]
RUN = ("run", "-m", "bs-trades", *TINY, "--calibration", "0", "--limit-train", "256")
USAGE, INVALID = 2, 4


def resolved(said: Said) -> dict[str, object]:
    (spec,) = json.loads(said.out)
    return spec


def test_a_run_says_how_it_was_executed(fatbench: Fatbench, tmp_path: object) -> None:
    said = fatbench(*RUN, "--engine", "fast", "--without", "fold", "--precision", "bf16", "--json")
    assert (said.code, said.err) == (0, "")
    (record,) = json.loads(said.out)
    engine = record["engine"]
    assert (engine["name"], engine["precision"]) == ("fast", "bf16")
    on = {part for part, in_force in engine["in_force"].items() if in_force}
    assert on == {"channels-last", "shadow", "fused-sgd"}
    assert set(engine["in_force"]) == {*get_args(Toggle), "compile"}
    assert engine["notes"] == {"graph": "CUDA graphs need a GPU"}
    assert (record["spec"]["engine"], record["spec"]["without"]) == ("fast", ["fold"])


def test_the_reference_engine_is_the_default_on_a_cpu_and_says_so(fatbench: Fatbench) -> None:
    (record,) = json.loads(fatbench(*RUN, "--device", "cpu", "--json").out)
    assert (record["spec"]["engine"], record["spec"]["precision"]) == ("reference", "fp32")
    assert record["engine"] == {
        "name": "reference",
        "precision": "fp32",
        "in_force": {},
        "notes": {},
        "compile_seconds": 0.0,
        "capture_seconds": 0.0,
    }


@pytest.mark.parametrize("flags", [("--without", "fold"), ("--compile",)])
def test_a_flag_of_the_fast_engine_asks_for_it(fatbench: Fatbench, flags: tuple[str, ...]) -> None:
    assert resolved(fatbench(*RUN, *flags, "--device", "cpu", "--dry-run"))["engine"] == "fast"


def test_toggles_repeat_and_their_order_does_not_matter(fatbench: Fatbench) -> None:
    def without(*names: str) -> object:
        flags = [flag for name in names for flag in ("--without", name)]
        return resolved(fatbench(*RUN, *flags, "--device", "cpu", "--dry-run"))["without"]

    assert without("shadow", "fold", "shadow") == without("fold", "shadow") == ["fold", "shadow"]


@pytest.mark.parametrize("toggle", get_args(Toggle))
def test_every_toggle_is_known_to_the_help_and_taken(fatbench: Fatbench, toggle: str) -> None:
    assert toggle in " ".join(fatbench("run", "--help").out.replace("│", " ").split())
    assert resolved(fatbench(*RUN, "--without", toggle, "--device", "cpu", "--dry-run"))["without"] == [toggle]


def test_a_target_ends_a_run(fatbench: Fatbench, tmp_path: object) -> None:
    flags = ("--epochs", "9", "--eval", "none", "--device", "cpu", "--calibration", "0")
    (record,) = json.loads(fatbench("run", "-m", "standard", *flags, "--target", "clean >= 55%", "--json").out)
    assert record["budget"]["stopped_by"] == "target"
    assert record["target"]["target"] == "clean>=0.55"
    assert record["steps"] < 81


@pytest.mark.parametrize(
    ("flags", "line"),
    [
        (
            ("--engine", "reference", "--without", "fold"),
            "--without and --compile are for --engine fast: the reference engine has neither",
        ),
        (
            ("--engine", "reference", "--compile"),
            "--without and --compile are for --engine fast: the reference engine has neither",
        ),
        (("--engine", "slow"), "--engine is one of 'reference' or 'fast', not 'slow'"),
        (("--without", "folds"), ", ".join(f"'{toggle}'" for toggle in get_args(Toggle)[:-1])),
        (("--target", "pgd-10"), "a target looks like pgd-10>=0.45 or clean>=90%, not 'pgd-10'"),
        (("--target", "pgd-10>0.4"), "a target looks like pgd-10>=0.45 or clean>=90%, not 'pgd-10>0.4'"),
        (("--target", "pgd-10>=45"), "a target looks like pgd-10>=0.45 or clean>=90%, not 'pgd-10>=45'"),
        (("--target", "pgd-10>=0"), "a target looks like pgd-10>=0.45 or clean>=90%, not 'pgd-10>=0'"),
        (("--target", "clean>=101%"), "a target looks like pgd-10>=0.45 or clean>=90%, not 'clean>=101%'"),
        (("--target", "robust>=0.5"), "no evaluation 'robust': there are clean, fgsm, pgd-STEPS"),
        (("--target", ">=0.5"), "no evaluation '': there are clean, fgsm, pgd-STEPS"),
        (("--target", "autoattack>=0.4"), "a target is looked at every epoch: clean or pgd-STEPS, not autoattack"),
        (("--target", ""), "a target looks like pgd-10>=0.45 or clean>=90%, not ''"),
    ],
)
def test_what_cannot_be_is_one_line(fatbench: Fatbench, flags: tuple[str, ...], line: str) -> None:
    said = fatbench(*RUN, *flags)
    assert line in said.complaint
    assert said.code == USAGE


@pytest.mark.slow
def test_a_network_that_cannot_be_compiled_whole_is_one_line(fatbench: Fatbench, tmp_path: object) -> None:
    net = (
        "from torch import nn\n"
        "class Net(nn.Module):\n"
        "    def __init__(self, num_classes):\n"
        "        super().__init__()\n"
        "        self.linear = nn.Linear(64, num_classes)\n"
        "    def forward(self, x):\n"
        "        x = x.flatten(1)\n"
        "        return self.linear(x) if float(x.sum()) > 1e9 else self.linear(-x)\n"
    )
    (tmp_path / "net.py").write_text(net)  # type: ignore[attr-defined]
    said = fatbench(*RUN, "--model", "net.py:Net", "--compile", "--device", "cpu")
    assert said.complaint.startswith("--compile: this network cannot be compiled as a whole: ")
    assert said.code == INVALID
    (path,) = (tmp_path / "results").glob("*.json")  # type: ignore[attr-defined]
    assert load(path).status == "failed"
