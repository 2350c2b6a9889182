"""Disks that are full, read-only, forbidden or gone: one line, exit code 6, and what was there before stays."""

import errno
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from fatbench.record import load
from tests import processes
from tests.cli.conftest import Said

Fatbench = Callable[..., Said]
RUN = ("run", "-m", "standard", "--epochs", 1, "--eval", "clean", "--calibration", 0, "--limit-train", 130, "--quiet")
RESOURCES = 6
FAULTS = {  # what goes wrong, and in which call of the system
    "full-at-open": ("open", errno.ENOSPC),
    "read-only": ("open", errno.EROFS),
    "forbidden": ("open", errno.EACCES),
    "quota-at-fsync": ("fsync", errno.EDQUOT),
    "full-at-fsync": ("fsync", errno.ENOSPC),
    "broken-at-fsync": ("fsync", errno.EIO),
    "full-at-rename": ("replace", errno.ENOSPC),
    "forbidden-rename": ("replace", errno.EPERM),
    "forbidden-mode": ("chmod", errno.EPERM),
}


class Disk:
    """Lets `sound` calls of `call` that are about the results pass, and refuses every one after that."""

    def __init__(self, call: str, number: int, sound: int) -> None:
        self.call, self.number, self.sound = call, number, sound
        self.original: Callable[..., Any] = getattr(os, call)
        self.calls = 0

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        if self._about_results(arguments):
            self.calls += 1
            if self.calls > self.sound:
                raise OSError(self.number, os.strerror(self.number))
        return self.original(*arguments, **options)

    def _about_results(self, arguments: tuple[Any, ...]) -> bool:
        if self.call == "open" and not arguments[1] & os.O_CREAT:
            return False
        return isinstance(arguments[0], int) or "results" in str(arguments[0])


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("sound", [0, 2])
def test_a_disk_that_fails_midway(
    fatbench: Fatbench, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, fault: str, sound: int
) -> None:
    assert fatbench(*RUN).code == 0
    before = files(tmp_path / "results")
    call, number = FAULTS[fault]
    monkeypatch.setattr(os, call, Disk(call, number, sound))
    said = fatbench(*RUN, "--seeds", 1)
    monkeypatch.undo()
    assert said.code == RESOURCES
    assert os.strerror(number) in said.complaint
    assert "choose another --output" in said.complaint
    after = files(tmp_path / "results")
    assert {name: after[name] for name in before} == before
    for name in after.keys() - before.keys():  # whole, or not there: no half-written file, no litter
        assert not Path(name).name.startswith(".")
        if name.endswith(".json"):
            load(tmp_path / "results" / name)


def test_the_run_goes_through_once_there_is_room(
    fatbench: Fatbench, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with monkeypatch.context() as full:
        full.setattr(os, "fsync", Disk("fsync", errno.ENOSPC, 2))
        assert fatbench(*RUN).code == RESOURCES
    assert fatbench(*RUN).code == 0
    (path,) = (tmp_path / "results").glob("*.json")
    assert load(path).status == "finished"


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A real file system with room for a record and not for the weights, where the machine lets us have one."""
    place = tmp_path / "small"
    place.mkdir()
    mount = shutil.which("mount")
    options = ["-t", "tmpfs", "-o", "size=64k", "tmpfs", str(place)]
    if mount is None or subprocess.run([mount, *options], capture_output=True).returncode:
        pytest.skip("may not mount a file system here")
    yield place
    subprocess.run(["umount", str(place)], check=True)


def test_a_real_disk_that_is_full(small_disk: Path) -> None:
    log = small_disk.with_suffix(".log")
    arguments = (*RUN, "-o", small_disk / "results")
    done = processes.end(processes.fork(processes.fatbench, *arguments, cwd=small_disk.parent, log=log), log)
    assert done.code == RESOURCES
    assert done.said.count("\n") == 1
    assert "No space left on device" in done.said
    for path in (small_disk / "results").glob("*.json"):
        load(path)


def test_an_output_that_is_a_file(fatbench: Fatbench, tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("mine")
    assert fatbench(*RUN, "-o", "taken").code == RESOURCES
    assert (tmp_path / "taken").read_text() == "mine"


@pytest.mark.parametrize("dataset", ["cifar10", "tiny-imagenet", "mnist", "svhn"])
def test_a_data_folder_that_is_gone(fatbench: Fatbench, tmp_path: Path, dataset: str) -> None:
    said = fatbench("run", "-m", "standard", "-d", dataset, "--data-dir", tmp_path / "gone", "--quiet")
    assert said.code == RESOURCES
    assert str(tmp_path / "gone") in said.complaint


@pytest.mark.parametrize("number", [errno.EACCES, errno.EIO, errno.ESTALE, errno.ENOENT])
def test_a_data_folder_behind_a_closed_door(
    fatbench: Fatbench, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, number: int
) -> None:
    (tmp_path / "data").mkdir()
    stat = os.stat

    def refuse(path: Any, *arguments: Any, **options: Any) -> os.stat_result:
        if "data/" in str(path):
            raise OSError(number, os.strerror(number), str(path))
        return stat(path, *arguments, **options)

    monkeypatch.setattr(os, "stat", refuse)
    said = fatbench("run", "-m", "standard", "-d", "cifar10", "--data-dir", tmp_path / "data", "--quiet")
    assert said.code == RESOURCES
    assert said.complaint
