"""The engine's flags on the command line: what a run does with them, and what is said of those that cannot be."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import get_args

import pytest

from fatbench.config.spec import EnginePart, flattened
from fatbench.record import load
from tests.cli.conftest import TINY, Said

Fatbench = Callable[..., Said]
RUN = ("run", "-m", "bs-trades", *TINY, "--limit-train", "256")
USAGE, INVALID, LACKS = 2, 4, 6


def resolved(said: Said) -> dict[str, object]:
    (spec,) = json.loads(said.out)
    return flattened(spec)


def test_a_run_says_how_it_was_executed(fatbench: Fatbench, tmp_path: object) -> None:
    said = fatbench(*RUN, "--engine", "fast", "--without", "fold", "--precision", "bf16", "--json")
    assert (said.code, said.err) == (0, "")
    (record,) = json.loads(said.out)
    engine = record["engine"]
    assert (engine["name"], engine["precision"]) == ("fast", "bf16")
    on = {part for part, in_force in engine["in_force"].items() if in_force}
    assert on == {"channels-last", "shadow", "fused-sgd"}
    assert set(engine["in_force"]) == {*get_args(EnginePart), "compile"}
    assert engine["notes"] == {"graph": "CUDA graphs need a GPU"}
    assert (record["spec"]["train"]["engine"], record["spec"]["train"]["without"]) == ("fast", ["fold"])


def test_the_reference_engine_is_the_default_on_a_cpu_and_says_so(fatbench: Fatbench) -> None:
    (record,) = json.loads(fatbench(*RUN, "--device", "cpu", "--json").out)
    assert (record["spec"]["train"]["engine"], record["spec"]["train"]["precision"]) == ("reference", "fp32")
    assert record["engine"] == {
        "name": "reference",
        "precision": "fp32",
        "in_force": {},
        "notes": {},
        "compile_seconds": 0.0,
        "capture_seconds": 0.0,
    }


@pytest.mark.parametrize("flags", [("--without", "fold"), ("--compile",), ("--require", "fold")])
def test_a_flag_of_the_fast_engine_asks_for_it(fatbench: Fatbench, flags: tuple[str, ...]) -> None:
    assert resolved(fatbench(*RUN, *flags, "--device", "cpu", "--dry-run"))["engine"] == "fast"


def test_toggles_repeat_and_their_order_does_not_matter(fatbench: Fatbench) -> None:
    def without(*names: str) -> object:
        flags = [flag for name in names for flag in ("--without", name)]
        return resolved(fatbench(*RUN, *flags, "--device", "cpu", "--dry-run"))["without"]

    assert without("shadow", "fold", "shadow") == without("fold", "shadow") == ["fold", "shadow"]


@pytest.mark.parametrize("toggle", get_args(EnginePart))
def test_every_toggle_is_known_to_the_help_and_taken(fatbench: Fatbench, toggle: str) -> None:
    assert toggle in " ".join(fatbench("run", "--help").out.replace("│", " ").split())
    assert resolved(fatbench(*RUN, "--without", toggle, "--device", "cpu", "--dry-run"))["without"] == [toggle]


REFUSED = {
    ("--require", "nonsense"): (USAGE, "--require takes channels-last, "),
    ("--require", "fold", "--without", "fold"): (USAGE, "--require fold: --without fold contradicts it"),
    ("--require", "fold", "--engine", "reference"): (USAGE, "--require fold: the reference engine has no parts"),
    ("--require", "shadow"): (USAGE, "--require shadow: shadows are bfloat16 copies of weights; use --precision bf16"),
    ("--require", "graph", "--engine", "reference"): (USAGE, "--require graph: the reference engine has no parts"),
    ("--require", "graph", "--without", "fused-sgd"): (USAGE, "--require graph: a graph needs fused-sgd"),
    ("--require", "graph"): (LACKS, "--require graph: CUDA graphs need a GPU"),
    ("--require", "pad-stem", "--require", "fold"): (LACKS, "--require pad-stem: it needs a GPU"),
}


@pytest.mark.parametrize("flags", REFUSED, ids=" ".join)
@pytest.mark.parametrize("command", ["run", "run --dry-run", "time"])
def test_what_cannot_be_required_is_refused_at_once(fatbench: Fatbench, command: str, flags: tuple[str, ...]) -> None:
    code, why = REFUSED[flags]
    name, *more = command.split()
    said = fatbench(name, *(("-m", "fgsm-rs") if name == "run" else ("fgsm-rs",)), *more, *flags, "--device", "cpu")
    assert said.code == code
    assert said.complaint.startswith(why)


NET = """
from torch import nn


def net(num_classes):
    layers = [nn.Conv2d(1, 8, 3), nn.BatchNorm2d(8), nn.GroupNorm(2, 8), nn.ReLU(), nn.Flatten()]
    return nn.Sequential(*layers, nn.Linear(288, num_classes))
"""


def test_a_required_part_is_in_force_or_the_run_ends_before_it_trains(fatbench: Fatbench, tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text(NET)
    flags = ("--device", "cpu", "--engine", "fast", "--model", "net.py:net")
    why = "--require fold: not in force: GroupNorm is a layer that it does not know"
    assert fatbench(*RUN, *flags, "--require", "channels-last").code == 0
    said = fatbench(*RUN, *flags, "--require", "fold")  # the result is there
    assert (said.code, said.complaint) == (LACKS, why)
    said = fatbench(*RUN, *flags, "--require", "fold", "--seeds", "1")
    assert (said.code, said.complaint.partition(";")[0][: len(why)]) == (LACKS, why)
    failed = [one for one in map(load, (tmp_path / "results").glob("*.json")) if one.status == "failed"]
    assert [one.steps for one in failed] == [0]
    said = fatbench("time", "bs-trades", *flags, "--require", "fold", "--runs", "1", "--batches", "1")
    assert (said.code, said.complaint) == (LACKS, why)


@pytest.mark.parametrize(("method", "more"), [("nuat", ()), ("trades", ("--awp", "0.01"))])
def test_a_method_that_cannot_be_captured_is_named_at_once(
    fatbench: Fatbench, method: str, more: tuple[str, ...]
) -> None:
    said = fatbench("run", "-m", method, *more, "--require", "graph", "--device", "cpu")
    assert said.code == USAGE
    assert "cannot be captured" in said.complaint


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
        (("--engine", "slow"), "--engine must be one of 'reference' or 'fast', not 'slow'"),
        (("--without", "folds"), ", ".join(f"'{toggle}'" for toggle in get_args(EnginePart)[:-1])),
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
