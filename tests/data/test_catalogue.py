from pathlib import Path

import pytest

from fatbench import data
from fatbench.errors import ResourceError, UsageError

KNOWN = "digits, mnist, cifar10, cifar100, svhn, tiny-imagenet, or the path of an .npz file or image folder"


def test_descriptions_are_single_lines():
    assert data.names() == ["digits", "mnist", "cifar10", "cifar100", "svhn", "tiny-imagenet"]
    for name in data.names():
        assert data.describe(name)
        assert "\n" not in data.describe(name)


def test_describe_unknown():
    with pytest.raises(UsageError, match=r"^no dataset 'imagenet': there are digits, .*tiny-imagenet, or the path"):
        data.describe("imagenet")


def test_without_a_home_directory_only_what_needs_one_asks_for_it(failure, monkeypatch):
    def nowhere():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", nowhere)
    monkeypatch.setattr(Path, "expanduser", lambda path: nowhere())
    assert data.load("digits", seed=0, data_dir=None).num_classes == 10
    line = "there is no home directory with datasets: name one with --data-dir or FATBENCH_DATA"
    assert failure("cifar10", ResourceError) == failure("tiny-imagenet", ResourceError) == line
    assert failure("~/x.npz", UsageError) == "~/x.npz: there is no such home directory; give the whole path"


def test_unknown_names_and_paths(failure, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "notes.txt").touch()
    assert failure("cifar", UsageError) == f"no dataset 'cifar': there are {KNOWN}"
    assert failure("data/cifar", UsageError) == f"data/cifar does not exist: a dataset is one of {KNOWN}"
    assert failure("./notes.txt", UsageError) == (
        f"./notes.txt is neither an .npz file nor a folder: a dataset is one of {KNOWN}"
    )
    assert failure("gone.npz", UsageError) == "cannot read gone.npz: No such file or directory"
    assert failure("a" * 300, UsageError) == f"no dataset '{'a' * 300}': there are {KNOWN}"
    assert failure("nul\0.npz", UsageError)


def test_the_name_is_short_for_a_path(tmp_path, arrays):
    import numpy as np

    np.savez(tmp_path / "my set.npz", **arrays)
    assert data.load(str(tmp_path / "my set.npz"), seed=0, data_dir=None).name == "my-set"


def test_the_default_folder_is_in_the_home(failure, tmp_path, monkeypatch):
    monkeypatch.setattr("pathlib.Path.home", lambda: tmp_path)
    assert failure("mnist", ResourceError) == (
        f"no mnist in {tmp_path}/.cache/fatbench: MNIST/raw is missing; "
        "add --download, or name its folder with --data-dir / FATBENCH_DATA"
    )


def test_what_does_not_fit_into_memory(failure, monkeypatch):
    def read():
        raise MemoryError

    monkeypatch.setattr("fatbench.data.digits.read_digits", read)
    assert failure("digits", ResourceError) == (
        "digits does not fit into this machine's memory: make a smaller copy of it"
    )
