"""Going on with what was left off: damaged and edited records, failures that can be mended, and what is named then."""

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from filelock import FileLock

from fatbench.io.lock import is_held, locked
from fatbench.record import Record, load, save
from fatbench.record.paths import CHECKPOINT, PREVIOUS_CHECKPOINT
from tests.cli.conftest import Said
from tests.cli.test_disk import Disk
from tests.cli.test_interruption import RUN, scores, signal_at, the_record

Fatbench = Callable[..., Said]
RESUME = ("--quiet", "--calibration", "0")


@pytest.fixture
def left(fatbench: Fatbench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Record]:
    """Leave off a run after thirteen batches; return the path of its record, and it."""
    with monkeypatch.context() as patched:
        signal_at(patched, 13, signal.SIGTERM)
        fatbench(*RUN)
    return the_record(tmp_path)


# The record


def damage(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-20])


@pytest.mark.parametrize("harm", [damage, Path.unlink])
@pytest.mark.parametrize("again", [("resume", "ID"), (*RUN, "--resume"), (*RUN, "--resume", "--force")])
def test_the_state_holds_the_record(
    fatbench: Fatbench, left: tuple[Path, Record], harm: Callable[[Path], None], again: tuple[str, ...]
) -> None:
    path, record = left
    harm(path)
    said = fatbench(*(record.id if word == "ID" else word for word in again), *RESUME)
    *remarks, last = said.err.splitlines()
    assert said.code == 0
    assert "resumes at step 13" in last
    if harm is damage:
        where = path.relative_to(Path.cwd())
        takes = "the record in its checkpoint takes its place"
        assert remarks == [f"fatbench: {where} is not a fatbench record: it is not valid JSON: {takes}"]
    resumed = load(path)
    assert (resumed.status, resumed.steps) == ("finished", 18)
    fatbench(*RUN, "--force")
    assert scores(load(path)) == scores(resumed)


@pytest.mark.parametrize("also_the_result", [False, True])
def test_the_record_of_a_replacement_is_found_in_its_state(
    fatbench: Fatbench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, also_the_result: bool
) -> None:
    fatbench(*RUN)
    path, record = the_record(tmp_path)
    before = path.read_bytes()
    with monkeypatch.context() as patched:
        signal_at(patched, 13, signal.SIGTERM)
        assert f"fatbench resume {record.id} resumes" in fatbench(*RUN, "--force").complaint
    running = path.parent / record.id / "running.json"
    damage(running)
    assert path.read_bytes() == before
    if also_the_result:
        damage(path)
    said = fatbench("resume", record.id, *RESUME)
    assert (said.code, running.exists()) == (0, False)
    assert "the record in its checkpoint takes its place" in said.err
    assert path.read_bytes() != before  # it has taken the result's place


def test_without_a_whole_state_a_damaged_record_is_begun_again(fatbench: Fatbench, left: tuple[Path, Record]) -> None:
    path, record = left
    damage(path)
    for name in (CHECKPOINT, PREVIOUS_CHECKPOINT):
        damage(path.parent / record.id / name)
    said = fatbench("resume", record.id)
    assert said.code == 2
    assert said.complaint.endswith("nor can its checkpoint: `fatbench run ... --force` starts it again")
    assert fatbench(*RUN, "--resume").complaint.endswith("the same command with --force replaces it")
    assert fatbench(*RUN, "--resume", "--force").code == 0


def test_an_edited_record_does_not_belong_to_its_name(fatbench: Fatbench, left: tuple[Path, Record]) -> None:
    path, record = left
    content = json.loads(path.read_text())
    content["spec"]["train"]["epochs"] = 1
    path.write_text(json.dumps(content))
    said = fatbench("resume", record.id)
    assert (said.code, said.complaint) == (
        2,
        f"results/{path.name} was edited: its settings and its name do not belong together;"
        " remove it, and its checkpoint holds the settings of the run",
    )
    said = fatbench(*RUN, "--resume", "--epochs", "1")  # nothing is stored of that one
    assert (said.code, said.complaint) == (0, "no checkpoint to resume from: starts at the beginning")
    assert "resumes at step 13" in fatbench(*RUN, "--resume").err  # and of this one there is
    assert load(path).spec == record.spec
    path.rename(path.with_name("other.json"))
    said = fatbench("resume", "results/other.json")
    assert said.code == 2
    assert said.complaint.startswith(f"results/other.json is the record of {record.id}: it and its name do not belong")


# Its name


def test_a_run_is_found_by_its_record_its_folder_and_its_id(
    fatbench: Fatbench, left: tuple[Path, Record], tmp_path: Path
) -> None:
    path, record = left
    for k, name in enumerate(("a/ID", "a/ID/", "./a/ID.json", str(tmp_path / "a" / "ID"))):
        shutil.rmtree("a", ignore_errors=True)
        shutil.copytree("results", "a")
        folder = ("--output", "a") if k % 2 else ()
        said = fatbench("resume", name.replace("ID", record.id), *(folder if k < 3 else ()), *RESUME)
        assert (said.code, load(tmp_path / "a" / path.name).status) == (0, "finished"), said.err


def test_what_could_be_gone_on_with_is_named_the_likeliest_first(
    fatbench: Fatbench, left: tuple[Path, Record], tmp_path: Path
) -> None:
    path, record = left
    for name in ("aa", "bb", "cc", "dd", "ee", "ff"):
        shutil.copytree(path.parent / record.id, path.parent / name)
    save(record.model_copy(update={"id": "a-result", "status": "finished"}), path.parent)
    (path.parent / "notes.json").write_text("{}")
    said = fatbench("resume", f"{record.id}x")
    assert (said.code, said.complaint) == (
        2,
        f"no run '{record.id}x' in results; unfinished there: {record.id}, aa, bb, cc, dd and 2 more",
    )
    (tmp_path / "file").write_text("")
    assert fatbench("resume", "nope", "-o", "file").complaint == "no run 'nope': file is a file, not a folder"


# What the lines name


def test_before_anything_was_trained_nothing_is_said_to_be_earned(
    fatbench: Fatbench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from fatbench.runner import train

    monkeypatch.setattr(train, "prepare", lambda *_: os.kill(os.getpid(), signal.SIGTERM))
    said = fatbench(*RUN)
    _, record = the_record(tmp_path)
    assert (said.code, record.status) == (75, "interrupted")
    assert said.complaint == (f"interrupted; {record.id} has nothing to resume yet; the same command starts it again")
    last = "nothing to resume: the same `fatbench run` starts it again"
    assert fatbench("show", record.id).out.splitlines()[-1] == last


FLAKY = """
from pathlib import Path

import torch.nn.functional as F

seen = []

def flaky(model, batch, ctx):
    seen.append(1)
    if len(seen) > 12 and not Path("mended").exists():
        raise OSError("the licence server is away")
    yield F.cross_entropy(model(batch.x), batch.y)
"""


def test_a_failed_run_names_how_it_goes_on(fatbench: Fatbench, tmp_path: Path) -> None:
    (tmp_path / "flaky.py").write_text(FLAKY)
    mine = ("run", "-m", "./flaky.py", *RUN[3:])
    said = fatbench(*mine, "-o", "mine")
    (path,) = (tmp_path / "mine").glob("*.json")
    again = f"fatbench resume {path.stem} --method ./flaky.py --output mine"
    assert said.code == 4
    assert said.complaint.endswith(f"the licence server is away; once that is fixed, {again} resumes")
    assert fatbench("show", f"mine/{path.name}").out.splitlines()[-1] == f"resume by: {again}"
    (tmp_path / "mended").touch()
    said = fatbench(*again.split()[1:], *RESUME)
    assert said.complaint.startswith("resumes at step 9,")
    assert load(path).status == "finished"


@pytest.mark.parametrize(("number", "remedy"), [(errno.EROFS, "make it writable"), (errno.ENOSPC, "make room there")])
def test_a_folder_that_cannot_be_written_any_more_is_not_exchanged(
    fatbench: Fatbench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, remedy: str
) -> None:
    """Steps are not lost by choosing another folder."""
    with monkeypatch.context() as patched:
        disk = Disk("replace", number, 10**9)
        signal_at(patched, 12, 0)  # no signal: the moment alone
        patched.setattr(os, "kill", lambda *_: setattr(disk, "sound", 0))
        patched.setattr(os, "replace", disk)
        patched.setattr(Path, "replace", lambda path, target: os.replace(path, target))  # noqa: PTH105
        said = fatbench(*RUN, "-o", "my results", "--epochs", "2")
    (path,) = (tmp_path / "my results").glob("*.json")
    assert said.code == 6
    assert said.complaint.startswith("cannot write my results/")
    again = f"then fatbench resume {path.stem} --output 'my results' resumes"
    assert said.complaint.endswith(f": {os.strerror(number)}; {remedy}, {again}")
    assert fatbench("resume", path, *RESUME).code == 0


def test_an_output_that_is_a_file_is_said_to_be_one(fatbench: Fatbench, tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("mine")
    said = fatbench(*RUN, "-o", "taken")
    assert (said.code, said.complaint) == (6, "taken is a file, not a folder: choose another --output")


def test_the_place_of_a_record_is_one_line_however_narrow_the_terminal(
    fatbench: Fatbench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    out = fatbench(*RUN).out
    path, _ = the_record(tmp_path)
    assert out.splitlines()[-1] == f"record: results/{path.name}"


@pytest.mark.parametrize("text", ["60", "60s", "1h"])
def test_how_often_is_taken_as_the_help_says(fatbench: Fatbench, text: str) -> None:
    assert fatbench(*RUN, "--checkpoint-every", text, "--dry-run").code == 0
    assert "60s (or 60), 10m, 1h, 1e (every epoch) or none" in fatbench(*RUN, "--checkpoint-every", "often").complaint


# After the last line

LAST = """
import atexit, os, signal, sys, time
signal.signal(2, signal.default_int_handler)

def late():
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1):
        os.kill(os.getpid(), number)
        time.sleep(0.01)

atexit.register(late)
sys.argv = ["fatbench", *sys.argv[1:]]
from fatbench.cli import main
main()
"""


@pytest.mark.parametrize(
    ("trap", "arguments", "code", "last"),
    [
        ("", ("list", "models"), 0, ""),
        ("", ("show", "nope"), 2, ""),
        ("import os; os.kill(os.getpid(), 2)", ("run", "-m", "standard"), 130, "fatbench: interrupted\n"),
        ("import os; os.kill(os.getpid(), 15)", ("run", "-m", "standard"), 75, "fatbench: interrupted\n"),
    ],
)
def test_signals_after_the_last_line_are_ignored(
    tmp_path: Path, trap: str, arguments: tuple[str, ...], code: int, last: str
) -> None:
    """Python that shuts down would end in a traceback, and a moment later by the signal."""
    if trap:
        (tmp_path / "torch.py").write_text(f"{trap}\n")
    path = os.pathsep.join([str(tmp_path), str(Path(__file__).parents[2])])
    done = subprocess.run(
        [sys.executable, "-c", LAST, *arguments],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": path},
    )
    assert done.returncode == code, done.stderr
    assert done.stderr.count("\n") == bool(code)
    assert not last or done.stderr == last


# The lock


def test_asking_who_has_a_run_does_not_keep_anybody_from_it(tmp_path: Path) -> None:
    assert not is_held(tmp_path, "a-run")
    assert not list(tmp_path.iterdir())
    with locked(tmp_path, "a-run"):
        assert is_held(tmp_path, "a-run")
    (tmp_path / ".a-run.lock").write_text("1\n")  # of a process that was killed
    assert not is_held(tmp_path, "a-run")
    asking = FileLock(tmp_path / ".a-run.lock", thread_local=False)  # whoever asks has it for a moment
    asking.acquire()
    threading.Timer(0.03, asking.release).start()
    with locked(tmp_path, "a-run"):
        pass
    (tmp_path / ".a-run.lock").mkdir()
    assert is_held(tmp_path, "a-run")  # nobody can tell
