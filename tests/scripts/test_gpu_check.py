"""The check that costs GPU time runs, end to end, where it costs none; and its verdicts follow from its figures."""

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from fatbench import data, methods
from scripts import gpu_check

SCRIPT = Path(gpu_check.__file__)


def options(tmp_path: Path, **changes: Any) -> argparse.Namespace:
    known = {"output": tmp_path, "cifar10": [], "device": None, "rehearse": True, "section": None, "seconds": 60.0}
    return argparse.Namespace(**(known | changes))


def impossible(constant: str) -> None:
    raise ValueError(f"{constant} is no JSON")


@pytest.mark.slow
def test_the_rehearsal_runs_every_section_without_an_error(tmp_path: Path) -> None:
    command = [sys.executable, str(SCRIPT), "--rehearse", "--output", str(tmp_path), "--minutes", "20"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads((tmp_path / "gpu_check.json").read_text(), parse_constant=impossible)
    assert report["rehearsal"] is True
    assert list(report["sections"]) == list(gpu_check.SECTIONS)
    for name, found in report["sections"].items():
        assert (found["error"], found["left_out"]) == (None, []), name
        assert found["rows"], name
    assert [one["name"] for one in report["figures"]] == [one.name for one in gpu_check.figures({}, methods.names())]
    assert (tmp_path / "profile.txt").stat().st_size > 1000
    assert len(list((tmp_path / "records").glob("*.json"))) == 3
    assert "owed" in done.stdout


def test_it_needs_no_pyautoattack(tmp_path: Path) -> None:
    (tmp_path / "pyautoattack.py").write_text("raise ImportError('not there')")
    paths = os.pathsep.join([str(tmp_path), str(SCRIPT.parents[1])])
    command = [sys.executable, "-c", "import scripts.gpu_check"]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"PYTHONPATH": paths})
    assert done.returncode == 0, done.stderr


# Verdicts


@pytest.mark.parametrize(
    ("figure", "met", "verdict"),
    [
        (gpu_check.Figure("", 6.0, low=5.0), True, "PASS by 20.0%"),
        (gpu_check.Figure("", 4.0, low=5.0), False, "MISS by 20.0%"),
        (gpu_check.Figure("", 45.0, high=60.0), True, "PASS by 25.0%"),
        (gpu_check.Figure("", 66.0, high=60.0), False, "MISS by 10.0%"),
        (gpu_check.Figure("", 2.5, 2.4, 2.9), True, "PASS by 4.2%"),
        (gpu_check.Figure("", 3.48, 2.4, 2.9), False, "MISS by 20.0%"),
        (gpu_check.Figure("", 1.2, 2.4, 2.9), False, "MISS by 50.0%"),
        (gpu_check.Figure("", None, low=5.0), None, "owed"),
        (gpu_check.Figure("", float("nan"), high=1.0), False, "MISS by nan%"),
        (gpu_check.Figure("", 3.0), True, "without a target"),
    ],
)
def test_a_verdict_says_by_how_much(figure: gpu_check.Figure, met: bool | None, verdict: str) -> None:
    assert (figure.met, figure.verdict) == (met, verdict)


def planted(**changes: Any) -> dict[str, dict[str, Any]]:
    """What two methods' sections might have found: trades takes 10 ms an update, bs-trades 4, at 200 of 500 TFLOP/s."""
    found: dict[str, Any] = {
        "environment": [{"item": "torch", "value": "2.11"}, {"item": "peak bf16, TFLOP/s", "value": 500.0}],
        "speed": [
            {"method": "trades", "ms_per_update": 10.0, "tflop_per_second": 200.0},
            {"method": "bs-trades", "ms_per_update": 4.0, "tflop_per_second": 100.0},
        ],
        "naive": [
            {"method": "trades", "precision": "tf32", "ms_per_update": 60.0},
            {"method": "trades", "precision": "fp32", "ms_per_update": 40.0},
        ],
        "training": [{"method": "fgsm-rs", "train_seconds": 30.0, "clean": 0.8, "pgd-50-10": 0.43}],
        "equality": [
            {"method": "trades", "precision": "fp32", "distance": 0.0, "again": 0.0, "graphed": True, "note": ""},
            {"method": "trades", "precision": "bf16", "distance": 0.03, "again": 0.02, "graphed": True, "note": ""},
            {"method": "bs-trades", "precision": "fp32", "distance": 0.0, "again": 0.0, "graphed": False, "note": "no"},
        ],
    }
    return {name: {"rows": rows} for name, rows in (found | changes).items()}


def verdicts(sections: dict[str, dict[str, Any]]) -> dict[str, tuple[float | None, str]]:
    found = gpu_check.figures(sections, ["bs-trades", "trades"])
    return {one.name: (one.measured, one.verdict.split(" by")[0]) for one in found}


def test_figures_follow_from_what_the_sections_found() -> None:
    found = verdicts(planted())
    assert found["trades: times as fast as its script in tf32"] == (6.0, "PASS")
    assert found["trades: times as fast as its script in fp32"] == (4.0, "MISS")
    assert found["bs-trades: times as fast as its script in tf32"] == (None, "owed")
    assert found["trades: MFU (aim 0.4)"] == (0.4, "PASS")
    assert found["bs-trades: MFU (aim 0.4)"] == (0.2, "MISS")
    assert found["standard: MFU (aim 0.4)"] == (None, "owed")
    assert found["trades / bs-trades: time of an update"] == (2.5, "PASS")
    assert found["fgsm-rs, 15 epochs of CIFAR-10: training seconds"] == (30.0, "PASS")
    assert found["fgsm-rs, 15 epochs of CIFAR-10: PGD-50-10"] == (0.43, "PASS")
    assert found["trades: graphed == eager in fp32"] == (0.0, "PASS")
    assert found["trades: graphed == eager in bf16"] == (0.03, "PASS")  # eager itself is 0.02 from eager
    assert found["bs-trades: captured in fp32"] == (0.0, "MISS")
    assert found["bs-trades: graphed == eager in bf16"] == (None, "owed")
    assert found["bs-trades: compiled == eager"] == (None, "owed")


def test_a_distance_beyond_what_eager_runs_differ_by_is_a_miss() -> None:
    row = {"method": "trades", "precision": "bf16", "distance": 0.07, "again": 0.02, "graphed": True, "note": ""}
    assert verdicts(planted(equality=[row]))["trades: graphed == eager in bf16"] == (0.07, "MISS")


def test_without_any_section_everything_is_owed() -> None:
    found = verdicts({})
    assert len(found) == 4 + 4 + 3 + 4 + 2  # speedups, MFU, the ratio and the run, graphed and compiled
    assert set(found.values()) == {(None, "owed")}


# Sections that do not end well


def test_a_failed_section_keeps_what_it_found_and_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(check: gpu_check.Check) -> None:
        check.row(found=1)
        raise RuntimeError("planted")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(gpu_check.torch, "compile", None)  # a rehearsal replaces it
    monkeypatch.setitem(gpu_check.SECTIONS, "speed", gpu_check.Section(fail, 1.0))
    assert gpu_check.run_section(options(tmp_path, section="speed")) == 1
    found = json.loads((tmp_path / gpu_check.SCRATCH).read_text())
    assert found["rows"] == [{"found": 1}]
    assert "RuntimeError: planted" in found["error"]


def test_a_section_that_hangs_is_stopped(tmp_path: Path) -> None:
    found = gpu_check.in_a_process("environment", options(tmp_path), 0.5)
    assert (found["rows"], found["error"]) == ([], "stopped after 0 s")
    assert found["seconds"] < 5


def test_what_time_does_not_allow_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    check = gpu_check.Check(options(tmp_path, section="speed", seconds=0.0))
    check.each(["first", "second"], lambda name: check.row(name=name))
    assert (check.found["rows"], check.found["left_out"]) == ([], ["first", "second"])


def test_one_that_fails_leaves_the_others_their_turn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def measure(name: str) -> None:
        check.row(name=name, quotient=1 / len(name))

    monkeypatch.chdir(tmp_path)
    check = gpu_check.Check(options(tmp_path, section="speed"))
    check.each(["first", "", "third"], measure)
    assert [row["name"] for row in check.found["rows"]] == ["first", "third"]
    assert "ZeroDivisionError" in check.found["error"]


def call(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["gpu_check.py", *arguments])
    return gpu_check.main()


def test_skipped_sections_are_named_and_earlier_results_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    earlier = {"rehearsal": False, "sections": {"speed": planted()["speed"] | {"error": None}}}
    (tmp_path / "gpu_check.json").write_text(json.dumps(earlier))
    assert call(monkeypatch, "--output", str(tmp_path), "--minutes", "0", "--only", "training", "naive") == 0
    told = capsys.readouterr().out
    assert "skipped: training, for want of --cifar10" in told
    assert "skipped: naive, which may take 110 s: 0 s are left" in told
    assert "trades / bs-trades: time of an update             >= 2.4 and <= 2.9  2.5       PASS by 4.2%" in told
    report = json.loads((tmp_path / "gpu_check.json").read_text())
    assert list(report["sections"]) == ["speed"]
    with pytest.raises(SystemExit, match="choose another --output"):
        call(monkeypatch, "--output", str(tmp_path), "--rehearse")


@pytest.mark.parametrize(("error", "ms", "code"), [(None, 10.0, 0), (None, 12.0, 1), ("planted", 10.0, 1)])
def test_the_exit_code_tells_of_misses_and_failures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: str | None, ms: float, code: int
) -> None:
    rows = [{"method": "trades", "ms_per_update": ms}, {"method": "bs-trades", "ms_per_update": 4.0}]
    earlier = {"rehearsal": False, "sections": {"speed": {"rows": rows, "error": error}}}
    (tmp_path / "gpu_check.json").write_text(json.dumps(earlier))
    assert call(monkeypatch, "--output", str(tmp_path), "--minutes", "0") == code


# The data


def test_mosaics_become_the_images_that_they_were_made_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(0)
    images = {split: random.integers(0, 256, (80, 32, 32, 3), dtype=np.uint8) for split in ("train", "test")}
    labels = {split: np.arange(80, dtype=np.uint8) % 10 for split in images}
    first, second, work = (tmp_path / name for name in ("first", "second", "work"))
    for folder, split in ((first, "train"), (second, "test")):
        folder.mkdir()
        rows = [np.concatenate(list(images[split][start : start + 40]), axis=1) for start in (0, 40)]
        Image.fromarray(np.concatenate(rows)).save(folder / f"{split}_00.webp", lossless=True)
    np.savez(second / "labels.npz", **labels)
    work.mkdir()
    monkeypatch.chdir(work)
    gpu_check.unpack([first, second])
    with np.load(gpu_check.CIFAR) as arrays:
        for split in images:
            np.testing.assert_array_equal(arrays[f"x_{split}"], images[split])
            np.testing.assert_array_equal(arrays[f"y_{split}"], labels[split])
    assert data.load(gpu_check.CIFAR, seed=0, data_dir=None).shape == (3, 32, 32)


def test_a_ready_made_file_is_used_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "mine.npz"
    np.savez(file, x_train=np.zeros(3))
    monkeypatch.chdir(tmp_path)
    gpu_check.unpack([file])
    assert np.load(gpu_check.CIFAR)["x_train"].shape == (3,)
