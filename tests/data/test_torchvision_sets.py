"""Official files through torchvision's own reading code, in miniature; their checksums are exchanged for ours."""

import errno
import gzip
import hashlib
import os
import pickle
import shutil
import time
import urllib.error
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import scipy.io
import torch
import torchvision.datasets
import torchvision.datasets.utils

from fatbench import data
from fatbench.errors import ResourceError

ELSEWHERE = "or name its folder with --data-dir / FATBENCH_DATA"


def colours(count, seed):
    return np.random.default_rng(seed).integers(0, 256, (count, 3, 32, 32), dtype=np.uint8)


def write_cifar(folder, label_key):
    """Batches as the official ones: rows of 3,072 bytes, red plane first. Returns file name -> md5."""
    folder.mkdir(parents=True)
    parts = {"train": (colours(60, 0), 0), "test": (colours(20, 1), 1), "meta": (None, None)}
    sums = {}
    for name, (x, _) in parts.items():
        content = {"label_names": list("ab"), "fine_label_names": list("ab")}
        if x is not None:
            content = {"data": x.reshape(len(x), -1), label_key: [i % 2 for i in range(len(x))]}
        (folder / name).write_bytes(pickle.dumps(content))
        sums[name] = hashlib.md5((folder / name).read_bytes()).hexdigest()
    return sums


@pytest.fixture(params=["cifar10", "cifar100"])
def cifar(request, tmp_path, monkeypatch):
    cls = getattr(torchvision.datasets, request.param.upper())
    key = {"cifar10": "labels", "cifar100": "fine_labels"}[request.param]
    sums = write_cifar(tmp_path / cls.base_folder, key)
    monkeypatch.setattr(cls, "train_list", [["train", sums["train"]]])
    monkeypatch.setattr(cls, "test_list", [["test", sums["test"]]])
    monkeypatch.setattr(cls, "meta", {**cls.meta, "filename": "meta", "md5": sums["meta"]})
    return request.param, tmp_path, cls.base_folder


def test_cifar(cifar):
    name, root, _ = cifar
    dataset = data.load(name, seed=0, data_dir=root)
    assert (dataset.name, dataset.shape, dataset.num_classes) == (name, (3, 32, 32), 2)
    assert (len(dataset.x_train), len(dataset.x_val)) == (57, 3)
    assert torch.equal(dataset.x_test, torch.from_numpy(colours(20, 1)))
    assert dataset.y_test.tolist() == [0, 1] * 10
    assert dataset.x_test.is_contiguous()


def test_damaged_cifar(cifar, failure):
    name, root, folder = cifar
    with (root / folder / "test").open("ab") as file:
        file.write(b"x")
    assert failure(name, ResourceError, root) == (
        f"{name} in {root} is incomplete or damaged (RuntimeError: Dataset not found or corrupted. You can use "
        f"download=True to download it); delete {folder} and add --download, {ELSEWHERE}"
    )


def test_official_checksums_are_checked(tmp_path, failure):
    """Nothing in a folder that merely looks like CIFAR-10 is unpickled."""
    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    for name in [*(f"data_batch_{i}" for i in range(1, 6)), "test_batch", "batches.meta"]:
        (folder / name).write_bytes(pickle.dumps(pytest.fail))
    assert failure("cifar10", ResourceError, tmp_path).startswith(f"cifar10 in {tmp_path} is incomplete or damaged (")


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("mnist", "MNIST/raw"),
        ("cifar10", "cifar-10-batches-py"),
        ("cifar100", "cifar-100-python"),
        ("svhn", "train_32x32.mat"),
    ],
)
def test_missing(tmp_path, failure, name, file):
    assert failure(name, ResourceError, tmp_path) == (
        f"no {name} in {tmp_path}: {file} is missing; add --download, {ELSEWHERE}"
    )


@pytest.mark.parametrize("name", ["mnist", "cifar10", "cifar100", "svhn"])
def test_download_without_network(tmp_path, failure, monkeypatch, name, capfd):
    def offline(*_, **__):
        raise urllib.error.URLError("Name or service not known")

    monkeypatch.setattr("urllib.request.urlopen", offline)
    line = failure(name, ResourceError, tmp_path / "new", download=True)
    assert line.startswith(f"cannot fetch {name} into {tmp_path}/new (")
    assert "Name or service not known" in line
    assert "); check network and folder, delete " in line
    assert capfd.readouterr().out == ""


def test_download_into_a_file(tmp_path, failure):
    (tmp_path / "file").touch()
    line = failure("cifar10", ResourceError, tmp_path / "file", download=True)
    assert line.startswith(f"cannot fetch cifar10 into {tmp_path}/file (")


def idx(array):
    header = bytes([0, 0, 8, array.ndim]) + b"".join(n.to_bytes(4, "big") for n in array.shape)
    return header + array.tobytes()


@pytest.fixture
def mnist(tmp_path):
    """Files as the official ones; torchvision checks no sums when it reads them."""
    raw = tmp_path / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for side, count in (("train", 40), ("t10k", 10)):
        (raw / f"{side}-images-idx3-ubyte").write_bytes(idx(colours(count, count)[:, 0, :28, :28]))
        (raw / f"{side}-labels-idx1-ubyte").write_bytes(idx(np.arange(count, dtype=np.uint8) % 5))
    return raw


def test_mnist(mnist, tmp_path):
    dataset = data.load("mnist", seed=0, data_dir=tmp_path)
    assert (dataset.shape, dataset.num_classes, len(dataset.x_train)) == ((1, 28, 28), 5, 38)
    assert torch.equal(dataset.x_test[:, 0], torch.from_numpy(colours(10, 10)[:, 0, :28, :28]))
    assert dataset.y_test.tolist() == [0, 1, 2, 3, 4] * 2


def test_damaged_mnist(mnist, tmp_path, failure):
    path = mnist / "t10k-images-idx3-ubyte"
    whole = path.read_bytes()
    for broken in (b"", whole[:3], whole[:500], b"\xff" * 50):
        path.write_bytes(broken)
        line = failure("mnist", ResourceError, tmp_path)
        assert line.startswith(f"mnist in {tmp_path} is incomplete or damaged (")
        assert line.endswith(f"); delete MNIST/raw and add --download, {ELSEWHERE}")
    path.unlink()
    assert failure("mnist", ResourceError, tmp_path).startswith(f"mnist in {tmp_path} is incomplete or damaged (")


def test_svhn(tmp_path, monkeypatch, failure):
    files = {}
    for side, count in (("train", 44), ("test", 20)):
        path = tmp_path / f"{side}_32x32.mat"
        labels = np.arange(count) % 10 + 1  # 1..10, 10 being the digit 0
        scipy.io.savemat(path, {"X": colours(count, count).transpose(2, 3, 1, 0), "y": labels[:, None]})
        files[side] = ["http://nowhere", path.name, hashlib.md5(path.read_bytes()).hexdigest()]
    monkeypatch.setattr(torchvision.datasets.SVHN, "split_list", files)
    dataset = data.load("svhn", seed=0, data_dir=tmp_path)
    assert (dataset.shape, dataset.num_classes, len(dataset.x_train)) == ((3, 32, 32), 10, 42)
    assert torch.equal(dataset.x_test, torch.from_numpy(colours(20, 20)))
    assert dataset.y_test.tolist() == [1, 2, 3, 4, 5, 6, 7, 8, 9, 0] * 2
    (tmp_path / "test_32x32.mat").unlink()
    assert failure("svhn", ResourceError, tmp_path) == (
        f"no svhn in {tmp_path}: test_32x32.mat is missing; add --download, {ELSEWHERE}"
    )


@pytest.fixture
def server(mnist, tmp_path, monkeypatch):
    """What a server would give: the files of `mnist`, packed; `fetched` lists what was asked for."""
    packed = {f"{path.name}.gz": gzip.compress(path.read_bytes()) for path in mnist.iterdir()}
    sums = [(name, hashlib.md5(content).hexdigest()) for name, content in sorted(packed.items())]
    monkeypatch.setattr(torchvision.datasets.MNIST, "resources", sums)
    monkeypatch.setattr(torchvision.datasets.MNIST, "mirrors", ["http://127.0.0.1:9/"])
    monkeypatch.setattr(torchvision.datasets.utils, "_get_redirect_url", lambda url, max_hops: url)
    fetched = []

    def give(url, filename, chunk_size=0):
        fetched.append(url.rpartition("/")[2])
        content = packed[fetched[-1]]
        Path(filename).write_bytes(content[: len(content) // 2] if len(fetched) == server.cut else content)
        if len(fetched) == server.interrupted:
            raise KeyboardInterrupt

    server = SimpleNamespace(cut=0, interrupted=0, fetched=fetched, root=tmp_path / "new")
    monkeypatch.setattr(torchvision.datasets.utils, "_urlretrieve", give)
    return server


def fetch(server):
    return data.load("mnist", seed=0, data_dir=server.root, download=True)


def test_a_download_is_fetched_once(server):
    assert len(fetch(server).x_train) == 38
    assert len(fetch(server).x_train) == 38
    assert len(server.fetched) == 4
    assert [path.name for path in server.root.iterdir()] == ["MNIST"]


@pytest.mark.parametrize("at", [1, 3, 4])
def test_an_interrupted_download_is_not_taken_for_complete(server, failure, at):
    server.interrupted = at
    with pytest.raises(KeyboardInterrupt):
        fetch(server)
    assert list(server.root.iterdir()) == []
    assert failure("mnist", ResourceError, server.root).startswith(f"no mnist in {server.root}: MNIST/raw is missing")
    server.interrupted = 0
    assert len(fetch(server).x_train) == 38


@pytest.mark.parametrize("at", [1, 4])
def test_a_download_that_was_cut_short_fails_its_checksum(server, failure, at):
    server.cut = at
    line = failure("mnist", ResourceError, server.root, download=True)
    assert line.startswith(f"cannot fetch mnist into {server.root} (")
    assert list(server.root.iterdir()) == []


def test_an_unpacking_that_was_interrupted_is_mended(server):
    fetch(server)
    half = server.root / "MNIST" / "raw" / "train-images-idx3-ubyte"
    half.write_bytes(half.read_bytes()[:1000])
    assert len(fetch(server).x_train) == 38
    assert [path.name for path in server.root.iterdir()] == ["MNIST"]


def test_a_disk_that_is_full_leaves_nothing_behind(server, failure, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(torchvision.datasets.utils, "_urlretrieve", full)
    assert "No space left on device" in failure("mnist", ResourceError, server.root, download=True)
    assert list(server.root.iterdir()) == []


@pytest.mark.parametrize("when", ["before-it-looks", "after-it-has-looked"])
def test_two_processes_that_fetch_the_same_both_have_it(server, monkeypatch, when):
    """The other one is done at the worst moment: when this one is about to put its own in place."""
    rename = Path.rename

    def late(path, target):
        is_old = Path(target).name.startswith("old-")
        if is_old == (when == "before-it-looks") and not (server.root / "MNIST" / "raw").exists():
            shutil.copytree(server.root.parent / "MNIST" / "raw", server.root / "MNIST" / "raw", dirs_exist_ok=True)
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", late)
    assert len(fetch(server).x_train) == 38
    assert [path.name for path in server.root.iterdir()] == ["MNIST"]


def test_what_killed_processes_have_left_is_removed_after_a_day(server):
    for name, age in ((".fetching-old", 25 * 3600), (".fetching-now", 60)):
        (server.root / name / "MNIST").mkdir(parents=True)
        os.utime(server.root / name, (time.time() - age,) * 2)
    fetch(server)
    assert sorted(path.name for path in server.root.iterdir()) == [".fetching-now", "MNIST"]
