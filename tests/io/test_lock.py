"""Processes that share a folder: each run is written by one of them at a time, and no lock outlives its process."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from fatbench.config.spec import RunSpec
from fatbench.errors import FatbenchError, ResourceError
from fatbench.io.lock import locked
from fatbench.record import load
from fatbench.runner.observer import Observer
from tests.processes import end, fork
from tests.runner.test_resume import make_spec
from tests.runner.test_runner import run

HOLD = """
import sys, time
from pathlib import Path
from fatbench.io.lock import locked
with locked(Path(sys.argv[1]), "a-run"):
    print("held", flush=True)
    time.sleep(60)
"""


class _Witness(Observer):
    trained = False

    def stage(self, name: str) -> None:
        self.trained = self.trained or name == "training"


def _child(spec: RunSpec, folder: Path) -> None:
    """Run `spec`, and print what came of it."""
    witness = _Witness()
    try:
        status = run(spec, output=folder, observer=witness).status
    except FatbenchError as error:
        print(error.exit_code, error)
    else:
        print(0, "trained" if witness.trained else "stored", status)


def test_eight_processes_on_one_folder_neither_corrupt_nor_repeat_each_others_runs(tmp_path: Path) -> None:
    """Four of them want the same run, four want others."""
    folder = tmp_path / "results"
    specs = [make_spec("fgsm-rs", epochs=2, seed=max(number - 3, 0), evaluate=["clean"]) for number in range(8)]
    logs = [tmp_path / f"{number}.log" for number in range(8)]
    begun = [fork(_child, spec, folder, cwd=tmp_path, log=log) for spec, log in zip(specs, logs, strict=True)]
    ends = [end(process, log).said.splitlines()[-1] for process, log in zip(begun, logs, strict=True)]
    assert ends[4:] == ["0 trained finished"] * 4
    refused = re.compile(rf"6 {specs[0].id} is being run by process \d+: wait for it, or choose another --output")
    assert sorted(end == "0 trained finished" for end in ends[:4]) == [False, False, False, True]
    assert all(end.startswith("0 ") or refused.fullmatch(end) for end in ends[:4])
    assert sorted(path.stem for path in folder.glob("*.json")) == sorted({spec.id for spec in specs})
    assert all(load(path).status == "finished" for path in folder.glob("*.json"))
    assert not [path for path in folder.rglob(".*") if path.is_file()]  # neither locks nor temporary files


def test_a_lock_is_another_processs_until_it_is_killed(tmp_path: Path) -> None:
    command = [sys.executable, "-c", HOLD, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        with (
            pytest.raises(ResourceError, match=f"a-run is being run by process {process.pid}"),
            locked(tmp_path, "a-run"),
        ):
            pass
        with locked(tmp_path, "another-run"):
            pass
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    assert (tmp_path / ".a-run.lock").exists()
    with locked(tmp_path, "a-run"):
        pass
    assert not list(tmp_path.iterdir())


def test_what_killed_processes_had_half_written_is_removed_and_nothing_else(tmp_path: Path) -> None:
    inside = tmp_path / "a-run"
    (inside / "evaluation").mkdir(parents=True)
    litter = [
        tmp_path / ".a-run.json.abcd1234",
        inside / ".state.safetensors.a_3xyz__",
        inside / "evaluation" / ".aa.npz.q1w2e3r4",
    ]
    kept = [
        tmp_path / "a-run.json",
        tmp_path / ".b-run.json.abcd1234",
        inside / ".gitignore",
        inside / "model.safetensors",
    ]
    for file in (*litter, *kept):
        file.write_text("half")
    with locked(tmp_path, "a-run"):
        assert not any(file.exists() for file in litter)
        assert all(file.exists() for file in kept)


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ResourceError, match="choose another --output"), locked(tmp_path / "file", "a-run"):
        pass


@pytest.mark.parametrize("kind", ["link", "hard-link", "link-to-nothing", "fifo", "folder"])
def test_what_is_in_a_locks_place_is_left_alone(tmp_path: Path, kind: str) -> None:
    precious, results = tmp_path / "precious.txt", tmp_path / "results"
    precious.write_text("mine")
    results.mkdir()
    place = results / ".a-run.lock"
    {
        "link": lambda: place.symlink_to(precious),
        "hard-link": lambda: place.hardlink_to(precious),
        "link-to-nothing": lambda: place.symlink_to(tmp_path / "made"),
        "fifo": lambda: os.mkfifo(place),
        "folder": place.mkdir,
    }[kind]()
    before = place.lstat()
    with (
        pytest.raises(ResourceError, match=r"cannot write .*\.a-run\.lock: .*choose another --output"),
        locked(results, "a-run"),
    ):
        pass
    assert precious.read_text() == "mine"
    assert place.lstat().st_ino == before.st_ino
    assert not (tmp_path / "made").exists()
