"""A result is replaced by a complete one, and at every moment the record in force and its files belong together."""

import hashlib
import shutil
from pathlib import Path

import pytest

from fatbench.config.spec import RunSpec
from fatbench.errors import ResourceError
from fatbench.io import atomic
from fatbench.record import Record, load
from fatbench.runner import claim
from tests.runner.test_resume import Remarks
from tests.runner.test_runner import make_spec, run

FILES = ["model.safetensors", "samples.npz"]


class Killed(BaseException):
    """Nothing is done after it."""


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, RunSpec]:
    """A folder with a result, and a replacement of it that is complete and has not taken its place yet."""
    folder = tmp_path_factory.mktemp("whole")
    spec = make_spec("standard", evaluate=["clean"], limit_train=300)
    first = run(spec, output=folder)
    before = (folder / first.artefacts["weights"]).stat().st_ino
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(claim, "save", full)
        with pytest.raises(ResourceError, match="No space left"):
            run(spec, output=folder, force=True)
    assert load(folder / f"{spec.id}.json") == first
    assert (folder / first.artefacts["weights"]).stat().st_ino == before
    return folder, spec


def full(*_: object) -> None:
    raise ResourceError("cannot write: No space left on device")


def assert_sound(folder: Path, spec: RunSpec) -> Record:
    record = load(folder / f"{spec.id}.json")
    weights = (folder / record.artefacts["weights"]).read_bytes()
    assert record.is_result
    assert hashlib.sha256(weights).hexdigest() == record.digests["weights"]
    assert (folder / record.artefacts["samples"]).exists()
    return record


@pytest.mark.parametrize("force", [False, True])
def test_a_replacement_that_could_not_take_its_place_does_so_later(
    whole: tuple[Path, RunSpec], tmp_path: Path, force: bool
) -> None:
    folder, spec = whole
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    first = assert_sound(tmp_path, spec)
    remarks = Remarks()
    record = run(spec, output=tmp_path, observer=remarks, resume=force, force=force)
    assert "training" not in remarks.stages
    assert record == assert_sound(tmp_path, spec) != first
    assert sorted(file.name for file in (tmp_path / spec.id).iterdir()) == FILES


def test_a_kill_between_any_two_steps_leaves_a_record_and_the_files_it_names(
    whole: tuple[Path, RunSpec], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, spec = whole
    left = 0

    def dying(owner: object, name: str) -> None:
        function = getattr(owner, name)

        def dies(*arguments: object, **options: object) -> object:
            nonlocal left
            left -= 1
            if left < 0:
                raise Killed
            return function(*arguments, **options)

        monkeypatch.setattr(owner, name, dies)

    for owner, name in ((Path, "replace"), (Path, "unlink"), (atomic.os, "fsync"), (Path, "hardlink_to")):
        dying(owner, name)
    seen = set()
    for step in range(100):
        place = tmp_path / str(step)
        left = 10**9
        shutil.copytree(folder, place)
        left = step
        try:
            claim.install_replacement(place, spec.id)
        except Killed:
            left = 10**9
            seen.add(assert_sound(place, spec).created)
            claim.install_replacement(place, spec.id)
        else:
            break
        assert_sound(place, spec)
        assert sorted(file.name for file in (place / spec.id).iterdir() if file.name[0] != ".") == FILES
    assert step > 10


def test_a_file_system_without_hard_links_has_copies(
    whole: tuple[Path, RunSpec], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, spec = whole
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)

    def refused(*_: object) -> None:
        raise PermissionError

    monkeypatch.setattr(Path, "hardlink_to", refused)
    claim.install_replacement(tmp_path, spec.id)
    assert_sound(tmp_path, spec)
    assert sorted(file.name for file in (tmp_path / spec.id).iterdir()) == FILES
