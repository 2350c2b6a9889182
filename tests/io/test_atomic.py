"""Files are whole, and on the disk with their names."""

import os
import stat
from pathlib import Path

import pytest

from fatbench.errors import ResourceError
from fatbench.io.atomic import link_atomically, write_atomically
from fatbench.io.lock import locked


def test_the_folder_is_on_the_disk_after_the_file_has_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fsync, seen = os.fsync, []

    def noted(descriptor: int) -> None:
        seen.append((stat.S_ISDIR(os.fstat(descriptor).st_mode), (tmp_path / "a").exists()))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", noted)
    write_atomically(tmp_path / "a", b"content")
    assert seen == [(False, False), (True, True)]


def test_a_folder_that_cannot_be_synced_is_no_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fsync = os.fsync

    def refusing(descriptor: int) -> None:
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError("not of a folder")
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", refusing)
    write_atomically(tmp_path / "a", b"content")
    assert (tmp_path / "a").read_bytes() == b"content"


@pytest.mark.parametrize(("mask", "mode"), [(0o077, 0o600), (0o022, 0o644), (0o002, 0o664), (0o027, 0o640)])
def test_files_have_the_permissions_that_the_umask_leaves(tmp_path: Path, mask: int, mode: int) -> None:
    before = os.umask(mask)
    try:
        for content in (b"new", b"replaced"):
            write_atomically(tmp_path / "folder" / "a", content, keep=tmp_path / "folder" / "a-before")
        link_atomically(tmp_path / "folder" / "a", tmp_path / "folder" / "b")
        with locked(tmp_path / "folder", "a-run"):
            files = {file.name: stat.S_IMODE(file.stat().st_mode) for file in (tmp_path / "folder").iterdir()}
        assert os.umask(mask) == mask
    finally:
        os.umask(before)
    assert files == dict.fromkeys(("a", "a-before", "b", ".a-run.lock"), mode)
    assert stat.S_IMODE((tmp_path / "folder").stat().st_mode) == 0o777 & ~mask


@pytest.mark.parametrize("kind", ["fifo", "link"])
def test_only_a_file_is_kept(tmp_path: Path, kind: str) -> None:
    """Whoever copied a device would copy for ever."""
    place, keep = tmp_path / "a", tmp_path / "a-before"
    os.mkfifo(place) if kind == "fifo" else place.symlink_to("/dev/zero")
    write_atomically(place, b"new", keep=keep)
    assert (place.read_bytes(), place.is_symlink(), keep.exists()) == (b"new", False, False)


def test_a_link_is_in_place_of_what_was_there_and_a_missing_file_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("a")
    (tmp_path / "b").write_text("b")
    link_atomically(tmp_path / "a", tmp_path / "b")
    assert ((tmp_path / "a").read_text(), (tmp_path / "b").read_text()) == ("a", "a")
    with pytest.raises(ResourceError, match="choose another --output"):
        link_atomically(tmp_path / "nowhere", tmp_path / "b")
    assert sorted(file.name for file in tmp_path.iterdir()) == ["a", "b"]
