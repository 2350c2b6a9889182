"""The check for regressions: what it calls slower, its exit codes, and a slowdown planted for real."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks import check
from benchmarks.baseline import PROTOCOL, Baseline, Ratio, made_here, path_for, read
from benchmarks.measuring import build, lane_names, measure
from benchmarks.prove import slowed
from benchmarks.verdict import CAP, FLOOR, judge, limit_for
from fatbench.errors import UsageError
from fatbench.runner.timing import Contender

CPU = torch.device("cpu")
QUICK = ["--method", "standard", "--method", "fgsm-rs", "--seconds", "4"]


def exact(value: float) -> Ratio:
    return Ratio(value=value, noise=0.0)


def outcomes(now: float, known: float, *, same_machine: bool = True) -> str:
    baseline = made_here(CPU, {"a": exact(known)})
    (verdict,) = judge({"a": exact(now)}, baseline, same_machine=same_machine)
    return verdict.outcome


def test_a_change_is_slower_faster_or_neither() -> None:
    assert [outcomes(now, 2.0) for now in (2.0, 2.2, 2.35, 3.0, 1.8, 1.0)] == [
        "ok",
        "ok",
        "slower",
        "slower",
        "ok",
        "faster",
    ]


def test_between_machines_only_a_large_change_counts() -> None:
    assert outcomes(2.5, 2.0, same_machine=False) == "ok"
    assert outcomes(2.7, 2.0, same_machine=False) == "slower"


def test_a_lane_without_baseline_is_new() -> None:
    (verdict,) = judge({"b": exact(1.0)}, made_here(CPU, {"a": exact(1.0)}), same_machine=True)
    assert (verdict.outcome, verdict.change) == ("new", None)


def test_the_limit_follows_the_noise_between_a_floor_and_a_cap() -> None:
    limits = [limit_for(Ratio(value=1.0, noise=noise), exact(1.0)) for noise in (0.0, 0.01, 0.04, 0.05, 1.0)]
    assert limits == pytest.approx([FLOOR, FLOOR, 1.2, 1.25, CAP])
    assert CAP < 1.5 * 0.9  # half as slow again is seen, even if measured 10% too small


@pytest.mark.parametrize(
    "changed", [{}, {"hardware": "another CPU"}, {"torch": "1.0"}], ids=["same", "processor", "torch"]
)
def test_processor_and_torch_make_the_machine(changed: dict[str, str]) -> None:
    here = made_here(CPU, {})
    assert here.same_machine_as(here.model_copy(update=changed)) == (not changed)


def test_no_baseline_and_one_of_another_protocol_or_kind_exit_with_5(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "baseline.json"
    assert run(path) == check.NO_BASELINE
    for change in ({"protocol": PROTOCOL + 1}, {"kind": "z80"}):
        path.write_text(made_here(CPU, {}).model_copy(update=change).model_dump_json())
        assert run(path) == check.NO_BASELINE
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 3
    assert all(line.startswith("bench-check: no baseline: ") for line in said)


@pytest.mark.parametrize(
    ("content", "arguments", "line"),
    [
        ("{", (), "is no baseline: "),
        ('{"protocol": "new"}', (), "is no baseline: protocol: "),
        ("", ("--method", "fgms"), "no method 'fgms': there are "),
    ],
)
def test_mistakes_exit_with_2_and_a_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: str, arguments: tuple[str, ...], line: str
) -> None:
    path = tmp_path / "baseline.json"
    path.write_text(content)
    assert run(path, *arguments) == UsageError.exit_code
    (said,) = capsys.readouterr().err.splitlines()
    assert line in said


def test_the_committed_baselines_are_of_this_protocol_and_of_lanes_that_exist() -> None:
    committed = list(path_for(CPU).parent.glob("baseline-*.json"))
    assert committed
    for path in committed:
        baseline = read(path)
        assert (baseline.protocol, path.name) == (PROTOCOL, f"baseline-{baseline.kind}.json")
        assert set(baseline.lanes) <= set(lane_names()), "make bench-baseline"
        assert "trades, fast fp32" in baseline.lanes


def test_a_baseline_survives_its_file(tmp_path: Path) -> None:
    made = made_here(CPU, {"a": Ratio(value=1.5, noise=0.01)})
    path = tmp_path / "baseline.json"
    path.write_text(made.model_dump_json())
    assert read(path) == made == Baseline(**json.loads(path.read_text()))


@pytest.mark.serial
def test_ratios_are_in_kernels() -> None:
    names = ["standard, reference fp32", "bs-trades, reference fp32"]
    standard, smoothed = measure(build(names, CPU), CPU, seconds=1.0).values()
    assert 0.1 < standard.value < 6.0  # the kernel is a training step and an attack step
    assert 1.0 < smoothed.value / standard.value < 12.0  # 10 passes to 3


@pytest.mark.slow
@pytest.mark.serial
def test_a_method_half_as_slow_again_is_found_and_unchanged_code_is_not(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "baseline.json"
    assert check.main(["--update", "--baseline", str(path), *QUICK]) == check.OK
    assert check.main(["--baseline", str(path), *QUICK]) == check.OK
    capsys.readouterr()
    assert check.main(["--baseline", str(path), *QUICK], build=slowed("fgsm-rs")) == check.SLOWER
    assert capsys.readouterr().out.splitlines()[-1] == "slower: fgsm-rs, reference fp32; fgsm-rs, fast fp32"


def run(path: Path, *arguments: str) -> int:
    """Run the check where it must end before anything is measured."""
    return check.main(["--baseline", str(path), *arguments], build=_nothing)


def _nothing(_lanes: Sequence[str], _device: Any) -> Mapping[str, Contender]:
    raise AssertionError("something is measured")
