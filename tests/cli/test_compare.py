"""`fatbench compare` as a person or a CI job uses it."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fatbench.io.lock import locked
from fatbench.record import load, save
from fatbench.record.paths import CHECKPOINT
from fatbench.report import run as run_module
from tests.report.records import doubtful, measured, record, run, score, standing

from .conftest import Said

Fatbench = Callable[..., Said]


def two(folder: Path, first: int = 50, second: int = 20) -> None:
    for seed in (0, 1):
        run(folder, standing(60, first), method="trades", seconds=9.0, seed=seed)
        run(folder, standing(60, second), seed=seed)


def put(folder: Path, **of: Any) -> None:
    save(record(**of), folder)


def test_paired(fatbench: Fatbench, tmp_path: Path) -> None:
    two(tmp_path / "results")
    said = fatbench("compare", "results", "--paired")
    assert said.code == 0
    assert "A better" in said.out
    assert "these weights" not in said.out
    assert "★" in said.out
    two(tmp_path / "results", 21, 20)
    assert "not distinguishable" in fatbench("compare", "results", "--paired", "--on", "pgd-20").out


def test_one_seed_each_is_about_the_weights(fatbench: Fatbench, tmp_path: Path) -> None:
    run(tmp_path / "results", standing(60, 50), method="trades")
    run(tmp_path / "results", standing(60, 20))
    said = fatbench("compare", "results", "--paired", "--format", "markdown")
    assert "| A better (these weights) |" in said.out
    assert "★" not in said.out


def test_lost_seeds_exit_3_and_are_named(fatbench: Fatbench, tmp_path: Path) -> None:
    for seed in (0, 1, 2):
        put(tmp_path / "base", seed=seed)
    put(tmp_path / "new", seed=1)
    said = fatbench("compare", "new", "--fail-if", "autoattack:-1pp", "--baseline", "base")
    assert said.code == 3
    assert "50.0% -> 50.0% (n=200), +0pp (limit -1pp) (seeds 0, 2 of the baseline are missing or invalid)" in said.out


def test_records_of_an_older_version_have_no_pairs_and_exit_0(fatbench: Fatbench, tmp_path: Path) -> None:
    put(tmp_path / "old")
    put(tmp_path / "old", method="trades")
    said = fatbench("compare", "old", "--paired", "--format", "markdown")
    assert said.code == 0
    assert "no per-image outcomes" in said.out
    assert "--force" in said.out


def test_a_hostile_path_is_one_line(fatbench: Fatbench, tmp_path: Path) -> None:
    two(tmp_path)
    put(tmp_path / "bad", fields={"artefacts": {"samples": "/etc/passwd"}, "scores": {"pgd-20": score(5, 60)}})
    put(tmp_path / "bad", method="trades", fields={"scores": {"pgd-20": score(50, 60)}})
    said = fatbench("compare", "bad", "--paired")
    assert said.code == 2
    assert "'/etc/passwd' for its outcomes, outside its folder" in said.complaint
    assert fatbench("compare", "bad").code == 0


@pytest.mark.parametrize("format_", ["table", "markdown", "csv", "json"])
def test_per_seed(fatbench: Fatbench, tmp_path: Path, format_: str) -> None:
    put(tmp_path / "r", clean=340)
    put(tmp_path / "r", clean=330, seed=7)
    put(tmp_path / "r", seed=9, status="diverged")
    said = fatbench("compare", "r", "--per-seed", "--format", format_)
    assert said.code == 0
    if format_ == "json":
        [row] = json.loads(said.out)[0]["rows"]
        assert [one["seeds"] for one in row["per_seed"]] == [[0], [7], [9]]
        assert row["per_seed"][1]["scores"]["clean"]["interval"] == "wilson"
        assert row["scores"]["clean"]["interval"] == "t"
    elif format_ == "csv":
        header, *lines = said.out.splitlines()
        assert "seed" in header.split(",")
        assert len(lines) == 3
        assert "diverged" in lines[2]
    else:
        for seed in (0, 7, 9):
            assert f"seed {seed}" in said.out
        assert "2 of 3 seeds valid" in " ".join(said.out.split())


def test_a_suspect_row_says_so(fatbench: Fatbench, tmp_path: Path) -> None:
    put(tmp_path / "r", fields=doubtful("softmax-outputs"))
    text = " ".join(fatbench("compare", "r", "--format", "markdown").out.split())
    assert "suspect: gradient masking" in text
    assert "contract: softmax-outputs" in text


def test_within_its_limits_a_comparison_exits_0(fatbench: Fatbench, tmp_path: Path) -> None:
    put(tmp_path / "base")
    put(tmp_path / "new", seconds=3.2)
    limits = ("--fail-if", "train_seconds:+10%", "--fail-if", "autoattack:-1.0pp")
    said = fatbench("compare", "new", *limits, "--baseline", "base")
    assert (said.code, said.err) == (0, "")
    assert "ok      training time of fgsm-rs on small-cnn, digits, linf eps 51/255, 15 epochs" in said.out
    assert "3.00 s -> 3.20 s, +6.67% (limit +10%)" in said.out  # a line, whatever the width of the terminal


@pytest.mark.parametrize("format_", ["table", "markdown", "csv", "json"])
def test_a_regression_exits_3(fatbench: Fatbench, tmp_path: Path, format_: str) -> None:
    put(tmp_path / "base")
    put(tmp_path / "new", seconds=4.0, autoattack=90)
    limits = ("--fail-if", "train_seconds:+10%", "--fail-if", "autoattack:-1.0pp")
    said = fatbench("compare", "new", *limits, "--baseline", "base/*.json", "--format", format_)
    assert said.code == 3
    assert said.err.endswith("fatbench: 2 of 2 checks failed\n")
    if format_ == "json":
        read = json.loads(said.out)
        assert [one["outcome"] for one in read["checks"]] == ["FAIL", "FAIL"]
        assert len(read["groups"]) == 1
    else:
        assert "FAIL" in (said.err if format_ == "csv" else said.out)


def test_a_missing_row_exits_3(fatbench: Fatbench, tmp_path: Path) -> None:
    put(tmp_path / "base")
    put(tmp_path / "more", method="trades")
    put(tmp_path / "new")
    limit = ("--fail-if", "clean:-1pp")
    for baseline in (("--baseline", "base", "--baseline", "more"), ("--baseline", "base,more")):
        said = fatbench("compare", "new", *limit, *baseline)
        assert said.code == 3
        assert "the new results do not" in said.out


def test_a_noisy_time_exits_7_unless_something_fails_for_certain(fatbench: Fatbench, tmp_path: Path) -> None:
    put(tmp_path / "old", seconds=3.0)
    put(tmp_path / "new", seconds=4.0, autoattack=10, fields=measured(noisy=True))
    gate = ("compare", "new", "--baseline", "old", "--fail-if", "train_seconds:+10%")
    said = fatbench(*gate)
    assert said.code == 7
    assert said.complaint.startswith("1 of 1 checks inconclusive: measure again on an idle machine")
    assert "inconclusive training time of fgsm-rs" in " ".join(said.out.split())
    assert fatbench(*gate, "--fail-if", "autoattack:-1pp").code == 3
    [check] = json.loads(fatbench(*gate, "--format", "json").out)["checks"]
    assert check["outcome"] == "inconclusive"


@pytest.mark.parametrize(("of", "limit"), [({"eps": "8/255"}, "clean:-1pp"), ({}, "pgd-50:-1pp")])
def test_nothing_to_compare_exits_5(fatbench: Fatbench, tmp_path: Path, of: dict[str, Any], limit: str) -> None:
    put(tmp_path / "base", **of)
    put(tmp_path / "new")
    said = fatbench("compare", "new", "--fail-if", limit, "--baseline", "base")
    assert said.code == 5
    assert said.complaint.startswith("nothing to compare with the baseline (")


@pytest.mark.parametrize("what", ["results", "results/*", "results/*.json"])
def test_what_cannot_be_read_is_named_and_left_out(fatbench: Fatbench, tmp_path: Path, what: str) -> None:
    for seed in (0, 1):
        put(tmp_path / "results", seed=seed)
    (tmp_path / "results" / "damaged.json").write_text("{")
    (tmp_path / "results" / "folder.json").mkdir()
    (tmp_path / "results" / "artefacts").mkdir()
    said = fatbench("compare", what, "--format", "json")
    assert [row["seeds"] for group in json.loads(said.out) for row in group["rows"]] == [[0, 1]]
    assert (said.code, said.err.splitlines()) == (
        2,
        [
            "fatbench: left out: results/damaged.json is not a fatbench record: it is not valid JSON",
            "fatbench: left out: cannot read results/folder.json: it is a folder, not a file",
        ],
    )


@pytest.mark.parametrize("damaged", ["base", "new"])
def test_no_gate_passes_on_less_than_it_was_given(fatbench: Fatbench, tmp_path: Path, damaged: str) -> None:
    put(tmp_path / "base")
    put(tmp_path / "new")
    (tmp_path / damaged / "damaged.json").write_text("{")
    said = fatbench("compare", "new", "--fail-if", "clean:-1pp", "--baseline", "base")
    assert (said.code, said.out) == (2, "")
    assert said.complaint.startswith(f"{damaged}/damaged.json is not a fatbench record")


def test_outcomes_that_are_damaged_can_be_made_again(fatbench: Fatbench, tmp_path: Path) -> None:
    two(tmp_path / "results")
    (damaged, *_) = sorted((tmp_path / "results").glob("*/samples.npz"))
    damaged.write_bytes(damaged.read_bytes()[:-30])
    said = fatbench("compare", "results", "--paired")
    assert said.code == 2
    assert said.complaint.endswith("is not an .npz file, or is cut short: `fatbench run ... --force` makes it again")


def test_a_run_that_no_process_has_is_stopped_and_goes_on(fatbench: Fatbench, tmp_path: Path) -> None:
    """Only the lock tells a killed process from one that is at work."""
    put(tmp_path / "mine", status="running")
    (path,) = (tmp_path / "mine").glob("*.json")
    with locked(tmp_path / "mine", path.stem):
        for command in (("show", path.stem, "-o", "mine"), ("compare", "mine")):
            said = fatbench(*command)
            assert "running" in said.out
            assert "stopped" not in said.out
    said = fatbench("show", path.stem, "--output", "mine")
    assert "stopped (no process has it)" in said.out
    nothing = "nothing to resume: the same `fatbench run` starts it again"
    assert said.out.splitlines()[-2:] == [f"record: mine/{path.stem}.json", nothing]
    (tmp_path / "mine" / path.stem).mkdir(exist_ok=True)
    (tmp_path / "mine" / path.stem / CHECKPOINT).touch()
    again = f"resume by: fatbench resume {path.stem} --output mine"
    assert fatbench("show", path.stem, "--output", "mine").out.splitlines()[-1] == again
    said = fatbench("compare", "mine", "--format", "markdown")
    assert "| stopped (no process has it) |" in said.out
    assert said.code == 0


def test_locks_are_asked_for_of_running_runs_only(
    fatbench: Fatbench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    monkeypatch.setattr(run_module, "is_held", lambda _folder, run_id: asked.append(run_id) or True)
    for seed, status in enumerate(("finished", "failed", "interrupted", "diverged", "running")):
        put(tmp_path / "r", seed=seed, status=status)
    fatbench("compare", "r")
    assert {load(tmp_path / "r" / f"{one}.json").status for one in asked} == {"running"}


def test_show_looks_for_results_and_methods(fatbench: Fatbench, tmp_path: Path) -> None:
    said = fatbench("show", "nope", "-o", "elsewhere")
    assert said.code == 2
    assert said.complaint.startswith(
        "no result 'nope' in elsewhere, nor a preset, dataset or model; no method 'nope': "
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--fail-if", "autoattack:1"), "--fail-if takes train_seconds:+NUMBER"),
        (("--fail-if", "autoattack:-1pp"), "--fail-if compares with --baseline RESULT.json"),
        (("--baseline", "new"), "--baseline needs --fail-if"),
        (("--fail-if", "clean:-1pp", "--baseline", "gone.json"), "cannot read gone.json"),
        (("--on", "clean"), "--on names the evaluation that --paired is about"),
        (("--paired", "--on", "fgsm"), "no run was evaluated on 'fgsm'; there are clean, pgd-20, autoattack"),
        (("--vs", "trades"), "--vs names the row that --paired compares the others with: add --paired"),
        (("--paired", "--vs", "trads"), "no run of 'trads' to refer to; there are fgsm-rs"),
        (("--paired", "--per-seed", "--format", "csv"), "a CSV holds one table"),
    ],
)
def test_mistakes_exit_2(fatbench: Fatbench, tmp_path: Path, arguments: tuple[str, ...], message: str) -> None:
    put(tmp_path / "new")
    said = fatbench("compare", "new", *arguments)
    assert said.code == 2
    assert message in said.complaint
