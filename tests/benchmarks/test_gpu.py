"""The GPU benchmark: rows that survive a kill, processes that are watched, figures that follow from rows."""

import json
import os
import signal
import subprocess
import sys
import tarfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from benchmarks.gpu import cifar10, report, rows, supervisor
from benchmarks.gpu.__main__ import run
from benchmarks.gpu.gpu_tests import outcome, summary
from benchmarks.gpu.report import Figure, figures, refuse_mixture, save
from benchmarks.gpu.rows import Rows
from benchmarks.gpu.scale import REHEARSAL
from benchmarks.gpu.section import RestartError, Section
from benchmarks.gpu.sections import PLANS, function_of
from fatbench.errors import UsageError
from scripts import gpu_tables

ROOT = Path(__file__).parents[2]


def section(tmp_path: Path, seconds: float = 60.0, launch: str = "1") -> Section:
    path = tmp_path / "rows" / "speed.jsonl"
    return Section(Rows(path, launch), REHEARSAL, tmp_path, time.time() + seconds, cifar10=False)


# Rows


def test_rows_are_there_when_they_are_written_and_a_torn_line_costs_only_itself(tmp_path: Path) -> None:
    mine = Rows(tmp_path / "rows" / "speed.jsonl", "1")
    mine.append("trades", ms=3.0)
    mine.append("trades", ms=2.0)
    mine.append("fgsm", error="planted")
    with mine.path.open("a") as file:
        file.write('{"name": "torn", "sour')
    assert [(row["name"], row["ms"]) for row in mine.measured()] == [("trades", 2.0)]
    assert mine.done() == {"trades", "fgsm"}
    assert [row["name"] for row in mine.failures()] == ["fgsm"]
    later = Rows(mine.path, "2")
    assert later.done() == {"trades"}  # what failed is tried again
    assert later.failures() == []


def test_what_another_version_measured_is_measured_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mine = Rows(tmp_path / "speed.jsonl", "1")
    mine.append("trades", ms=3.0)
    monkeypatch.setattr(rows, "source_version", lambda: "00000000")
    assert (mine.measured(), mine.done()) == ([], set())
    assert [row["ms"] for row in mine.of_any_version()] == [3.0]


def test_what_a_process_was_at_when_it_died_is_known(tmp_path: Path) -> None:
    mine = Rows(tmp_path / "speed.jsonl", "1")
    assert mine.in_progress() is None
    mine.append("trades", begun=True)
    assert mine.in_progress() == "trades"
    assert Rows(mine.path, "2").in_progress() is None
    mine.append("trades", ms=1.0)
    assert mine.in_progress() is None


# Sections


def test_a_failure_is_a_row_and_the_rest_is_for_another_process(tmp_path: Path) -> None:
    measured: list[str] = []

    def measure(name: str) -> None:
        measured.append(name)
        one.rows.append(name, quotient=1 / len(name.strip()))

    one = section(tmp_path)
    with pytest.raises(RestartError):
        one.each(["first", " ", "third"], measure)
    one.each(["first", " ", "third"], measure)
    assert measured == ["first", " ", "third"]
    assert [row["error"] for row in one.rows.failures()] == ["ZeroDivisionError: division by zero"]
    assert "speed:  \nTraceback" in (tmp_path / "errors.txt").read_text()
    section(tmp_path, launch="2").each(["first"], measure)  # stands
    assert measured == ["first", " ", "third"]


def test_once_its_time_is_over_nothing_is_begun(tmp_path: Path) -> None:
    one = section(tmp_path, seconds=-1.0)
    one.each(["first"], lambda _: pytest.fail("begun"))
    assert one.rows.all() == []


def test_every_section_has_its_function() -> None:
    assert all(callable(function_of(name)) for name in PLANS)


# The supervisor


@pytest.fixture
def obedient(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Let the supervised process be one that does what a script says."""
    script = tmp_path / "script.py"
    monkeypatch.setattr(supervisor, "_GRACE", 0.2)
    start = supervisor._start
    monkeypatch.setattr(supervisor, "_start", lambda _, folder: start([sys.executable, str(script)], folder))
    return script


def write(script: Path, body: str) -> None:
    head = f"import json, os, sys, time, subprocess\nrows = {str(script.parent / 'rows.jsonl')!r}\n"
    tell = (
        "def tell(name, **values):\n"
        f"    row = dict(name=name, source={rows.source_version()!r}, launch='1', **values)\n"
        "    open(rows, 'a').write(json.dumps(row) + '\\n')\n"
    )
    known = "done = [json.loads(line)['name'] for line in open(rows)] if os.path.exists(rows) else []\n"
    script.write_text(head + tell + known + body)


def supervised(tmp_path: Path, seconds: float = 30.0) -> tuple[str, Rows]:
    found = Rows(tmp_path / "rows.jsonl", "1")
    return supervisor.supervise("speed", found, [], tmp_path, time.time() + seconds), found


def test_a_process_that_ends_well_is_left_alone(obedient: Path, tmp_path: Path) -> None:
    write(obedient, "tell('a', ms=1)")
    assert supervised(tmp_path)[0] == ""


def test_what_killed_a_process_is_named_and_another_measures_the_rest(obedient: Path, tmp_path: Path) -> None:
    write(obedient, "if 'a' in done: tell('b', ms=1); sys.exit()\ntell('a', begun=True)\nos.kill(os.getpid(), 11)")
    why, found = supervised(tmp_path)
    assert why == ""
    assert [(row["name"], row["error"]) for row in found.failures()] == [("a", "the process ended with code -11")]
    assert [row["name"] for row in found.measured()] == ["b"]


def test_what_hangs_is_killed_with_its_children(
    obedient: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(PLANS, "speed", supervisor.PLANS["speed"].__class__("speed", 30, stall=0.7))
    write(
        obedient,
        "if 'a' in done: sys.exit()\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])\n"
        "open('child', 'w').write(str(child.pid))\ntell('a', begun=True)\ntime.sleep(60)",
    )
    why, found = supervised(tmp_path)
    assert why == ""
    assert [row["error"] for row in found.failures()] == ["nothing new for 1 s: killed"]
    assert is_gone(int((tmp_path / "child").read_text()))


def test_a_process_that_fails_at_once_is_not_tried_for_ever(obedient: Path, tmp_path: Path) -> None:
    write(obedient, "sys.exit(3)")
    assert supervised(tmp_path)[0] == "the process ended with code 3"


def test_when_time_is_over_it_ends(obedient: Path, tmp_path: Path) -> None:
    write(obedient, "tell('a', begun=True); time.sleep(60)")
    started = time.monotonic()
    assert supervised(tmp_path, seconds=0.5)[0] == "out of time"
    assert time.monotonic() - started < 5


def is_gone(pid: int) -> bool:
    for _ in range(100):
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return True
        if Path(f"/proc/{pid}/stat").read_text().split()[2] == "Z":
            return True
        time.sleep(0.05)
    return False


# The whole, on a CPU


def command(output: Path, *arguments: str) -> list[str]:
    return [sys.executable, "-m", "benchmarks.gpu", "--rehearse", "--output", str(output), *arguments]


@pytest.mark.slow
def test_a_rehearsal_of_everything_measures_everything(tmp_path: Path) -> None:
    archive = tmp_path / "all.tar.gz"
    started = time.monotonic()
    done = subprocess.run(
        command(tmp_path / "out", "--archive", str(archive)), cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "failed: none" in done.stdout
    print(f"rehearsal: {time.monotonic() - started:.0f} s")
    for name in PLANS:
        assert Rows(tmp_path / "out" / "rows" / f"{name}.jsonl", "").measured(), name
    with tarfile.open(archive) as tar:
        names = tar.getnames()
    assert {f"rows/{name}.jsonl" for name in PLANS} <= set(names)
    assert sum(name.startswith("records/") and name.endswith(".json") for name in names) == 3
    assert not any(name.endswith(".safetensors") or name.startswith("work") for name in names)


@pytest.mark.slow
@pytest.mark.parametrize("name", PLANS)
def test_killed_in_the_middle_of_a_section_it_leaves_no_orphan_and_goes_on_there(tmp_path: Path, name: str) -> None:
    if name in ("scoring", "autoattack"):  # they build on what `training` leaves
        subprocess.run(command(tmp_path, "--only", "training"), cwd=ROOT, check=True, capture_output=True)
    process = subprocess.Popen(
        command(tmp_path, "--only", name), cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    mine = Rows(tmp_path / "rows" / f"{name}.jsonl", "")
    while process.poll() is None and len(mine.all()) < 2:
        time.sleep(0.02)
    children = children_of(process.pid)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert all(is_gone(pid) for pid in children)
    stands = [row for row in mine.all() if "begun" not in row]
    done = subprocess.run(command(tmp_path, "--only", name), cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    again = [row["name"] for row in mine.all() if "begun" not in row]
    assert stands == mine.all()[1 : 1 + len(stands)] or name == "gpu_tests"
    assert len(again) == len(set(again)) or name == "gpu_tests"  # pytest begins anew


@pytest.mark.slow
def test_ctrl_c_is_one_line_and_what_is_measured_stands(tmp_path: Path) -> None:
    process = subprocess.Popen(
        command(tmp_path, "--only", "speed"), cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    mine = Rows(tmp_path / "rows" / "speed.jsonl", "")
    while process.poll() is None and not mine.measured():
        time.sleep(0.02)
    children = children_of(process.pid)
    process.send_signal(signal.SIGINT)
    said = process.communicate(timeout=300)[1]
    assert process.returncode == 130
    assert said.strip() == ("benchmarks.gpu: stopped; what is measured stands, and the same command measures the rest")
    assert all(is_gone(pid) for pid in children)
    assert mine.measured()


def children_of(pid: int) -> list[int]:
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            words = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(words[1]) == pid:
            found += [int(stat.parent.name), *children_of(int(stat.parent.name))]
    return found


# Lines of pytest


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("[gw0] [  3%] PASSED tests/a/test_b.py::test_c[x-fp32] ", ("PASSED", "a/test_b.py::test_c[x-fp32]")),
        ("tests/a/test_b.py::test_c[x y] FAILED            [ 12%]", ("FAILED", "a/test_b.py::test_c[x y]")),
        ("FAILED tests/a/test_b.py::test_c - AssertionError: no", ("FAILED", "a/test_b.py::test_c")),
        ("SKIPPED [1] tests/a/test_b.py:3: needs a GPU", None),
        ("some words on the way", None),
    ],
)
def test_an_outcome_is_read_from_a_line(line: str, found: tuple[str, str] | None) -> None:
    assert outcome(line) == found


def test_the_sum_is_read_from_the_last_line() -> None:
    counts = {"passed": 156, "failed": 17, "errors": 0}
    assert summary("=========== 17 failed, 156 passed, 20 deselected in 43.05s ===========") == counts
    assert summary("3 passed in 0.10s") == {"passed": 3, "failed": 0, "errors": 0}
    assert summary("17 failed things") == {}


# Figures


def planted(folder: Path, **sections: list[dict[str, Any]]) -> Path:
    for name, found in sections.items():
        for row in found:
            Rows(folder / "rows" / f"{name}.jsonl", "1").append(**row)
    return folder


def verdicts(folder: Path) -> dict[str, tuple[float | None, str]]:
    return {one.name: (one.measured, one.verdict) for one in figures(folder)}


def test_figures_follow_from_the_rows(tmp_path: Path) -> None:
    planted(
        tmp_path,
        environment=[{"name": "peak bf16", "tflop_per_second": 500.0}],
        speed=[
            {"name": "trades", "ms_per_update": 10.0, "tflop_per_second": 200.0},
            {"name": "bs-trades", "ms_per_update": 4.0, "tflop_per_second": 100.0},
        ],
        naive=[{"name": "trades", "ms_per_update": 60.0}, {"name": "bs-trades", "ms_per_update": 16.0}],
        training=[{"name": "fgsm-rs, 15 epochs, seed 0", "method": "fgsm-rs", "train_seconds": 30.0}],
        scoring=[{"name": "x", "method": "fgsm-rs", "pgd-50-10": [412, 1000]}],
        gpu_tests=[{"name": "pytest", "passed": 3, "failed": 1, "errors": 0}],
    )
    found = verdicts(tmp_path)
    assert found["trades: times as fast as its authors' loop"] == (6.0, "met")
    assert found["bs-trades: times as fast as its authors' loop"] == (4.0, "MISSED")
    assert found["trades: MFU"] == (0.4, "met")
    assert found["bs-trades: MFU"] == (0.2, "MISSED")
    assert found["standard: MFU"] == (None, "not measured")
    assert found["trades / bs-trades: time"] == (2.5, "met")
    assert found["fgsm-rs, 15 epochs: training seconds"] == (30.0, "met")
    assert found["fgsm-rs, 15 epochs: PGD-50-10 accuracy"] == (0.412, "MISSED")
    assert found["GPU tests that fail"] == (1, "MISSED")


def test_without_any_rows_nothing_is_measured(tmp_path: Path) -> None:
    assert {verdict for _, verdict in verdicts(tmp_path).values()} == {"not measured"}


def test_what_is_no_number_meets_no_target() -> None:
    assert Figure("x", float("nan"), low=1.0).met is False
    assert report.table_of([Figure("x", float("nan"), low=1.0)]).splitlines()[1].split() == [
        *("x", ">=", "1", "nan", "MISSED")
    ]


def test_figures_of_different_scales_do_not_mix(tmp_path: Path) -> None:
    refuse_mixture(tmp_path, "gpu")
    refuse_mixture(tmp_path, "gpu")
    with pytest.raises(UsageError, match="choose another --output"):
        refuse_mixture(tmp_path, "rehearsal")
    (tmp_path / "gpu.json").write_text("{")
    with pytest.raises(UsageError, match="is damaged"):
        refuse_mixture(tmp_path, "gpu")


def test_the_archive_has_what_is_small_and_no_weights(tmp_path: Path) -> None:
    for name in ("rows/a.jsonl", "records/r.json", "records/r/model.safetensors", "work/cifar10.npz"):
        (tmp_path / "out" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "out" / name).write_text("x")
    (tmp_path / "out" / "large.txt").write_bytes(bytes(5 * 2**20))
    save(tmp_path / "out", tmp_path / "all.tar.gz")
    with tarfile.open(tmp_path / "all.tar.gz") as tar:
        assert tar.getnames() == ["records/r.json", "rows/a.jsonl"]


# Images


def test_mosaics_are_unpacked_and_later_parts_may_be_missing(tmp_path: Path) -> None:
    source, generator = tmp_path / "parts", np.random.default_rng(0)
    source.mkdir()
    images = generator.integers(0, 256, (80, 32, 32, 3), np.uint8)
    for name, part in (("train_00", images), ("train_02", images), ("test_00", images[:40])):
        rows_of_tiles = part.reshape(-1, 40, 32, 32, 3).swapaxes(1, 2).reshape(-1, 40 * 32, 3)
        Image.fromarray(rows_of_tiles).save(source / f"{name}.webp", lossless=True)
    labels = {"train": np.arange(240, dtype=np.uint8), "test": np.arange(40, dtype=np.uint8)}
    np.savez(source / "labels.npz", **labels)
    assert cifar10.unpack([source], tmp_path) == {"train": 80, "test": 40}
    with np.load(tmp_path / cifar10.NAME) as found:
        assert (found["x_train"] == images).all()
        assert found["y_train"].tolist() == list(range(80))


def test_a_folder_without_images_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"no labels\.npz in .*nowhere"):
        cifar10.unpack([tmp_path / "nowhere"], tmp_path)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_the_remedy_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["benchmarks.gpu", "--output", str(tmp_path)])
    assert run() == 6
    assert capsys.readouterr().err == (
        "benchmarks.gpu: torch finds no GPU here; --rehearse runs the same code on a CPU\n"
    )


@pytest.mark.parametrize(
    "flags", [("--output", ""), ("--output", "x", "--minutes", "-1"), ("--output", "x", "--minutes", "nan")]
)
def test_flags_that_mean_nothing_are_refused(monkeypatch: pytest.MonkeyPatch, flags: tuple[str, ...]) -> None:
    monkeypatch.setattr(sys, "argv", ["benchmarks.gpu", "--rehearse", *flags])
    with pytest.raises(SystemExit) as exit_:
        run()
    assert exit_.value.code == 2


def test_a_folder_that_cannot_be_made_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setattr(sys, "argv", ["benchmarks.gpu", "--rehearse", "--output", str(tmp_path / "file")])
    assert run() == 6
    assert "Not a directory" in capsys.readouterr().err


def test_an_image_of_another_size_is_named(tmp_path: Path) -> None:
    Image.new("RGB", (64, 64)).save(tmp_path / "train_00.webp")
    with pytest.raises(UsageError, match=r"train_00\.webp is no mosaic of 40 columns"):
        cifar10.tiles(tmp_path / "train_00.webp")


# What is committed


def test_committed_rows_are_whole_and_of_one_card() -> None:
    found = sorted((ROOT / "results/gpu/rows").glob("*.jsonl"))
    assert found
    for path in found:
        for line in path.read_text().splitlines():
            assert {"name", "source", "launch"} <= json.loads(line).keys()


@pytest.mark.parametrize(("path", "text"), list(gpu_tables.documents()), ids=["docs", "README"])
def test_the_documents_tables_are_the_committed_rows(path: Path, text: str) -> None:
    inside = path.read_text(encoding="utf-8").split(gpu_tables.BEGIN)[1].split(gpu_tables.END)[0]
    assert inside.strip() == text.strip(), "run `make gpu-tables`"
