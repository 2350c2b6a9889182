"""Own .npz files: the layouts that are read, and the exact line for everything that can be wrong."""

import io
import zipfile

import numpy as np
import pytest
import torch

from fatbench import data
from fatbench.errors import UsageError


@pytest.fixture
def save(tmp_path, monkeypatch, arrays):
    """A function that writes own.npz, the valid arrays with some changed (None leaves one out)."""
    monkeypatch.chdir(tmp_path)

    def _save(write=np.savez_compressed, **changes):
        content = {key: value for key, value in {**arrays, **changes}.items() if value is not None}
        write(tmp_path / "own.npz", **content)
        return "own.npz"

    return _save


def load(name):
    return data.load(name, seed=0, data_dir=None)


def outcome(name):
    try:
        load(name)
    except UsageError as error:
        return str(error)
    return "read"


@pytest.mark.parametrize("write", [np.savez, np.savez_compressed])
def test_layouts_give_the_same_images(save, arrays, write):
    expected = load(save(write))
    assert expected.shape == (3, 6, 5)
    assert torch.equal(expected.x_test, torch.from_numpy(arrays["x_test"]))
    assert (len(expected.x_train), len(expected.x_val), expected.num_classes) == (57, 3, 3)
    last = {key: arrays[key].transpose(0, 2, 3, 1) for key in ("x_train", "x_test")}
    fortran = {key: np.asfortranarray(arrays[key]) for key in ("x_train", "x_test")}
    for changes in (last, fortran):
        got = load(save(write, **changes))
        assert torch.equal(got.x_train, expected.x_train)
        assert torch.equal(got.x_test, expected.x_test)
        assert got.x_test.is_contiguous()
        assert got.sha256 == expected.sha256


def test_grey_images_without_a_channel_axis(save, arrays):
    got = load(save(x_train=arrays["x_train"][:, 0], x_test=arrays["x_test"][:, 0]))
    assert got.shape == (1, 6, 5)
    assert torch.equal(got.x_test[:, 0], torch.from_numpy(arrays["x_test"][:, 0]))


@pytest.mark.parametrize("dtype", ["u1", "i2", ">i4", "u8", ">i8"])
@pytest.mark.parametrize("column", [False, True])
def test_labels_of_any_integer_type_and_in_a_column(save, arrays, dtype, column):
    labels = {key: arrays[key].astype(dtype) for key in ("y_train", "y_test")}
    got = load(save(**{key: y[:, None] if column else y for key, y in labels.items()}))
    assert got.y_test.dtype == torch.int64
    assert got.y_test.tolist() == arrays["y_test"].tolist()


def test_other_arrays_are_ignored_even_if_they_hold_objects(save):
    assert load(save(extra=np.array([{}], dtype=object))).num_classes == 3


def test_a_test_set_may_lack_a_class_and_that_is_said(save):
    got = load(save(y_test=np.zeros(30, dtype=int), class_names=np.array(["ä", "b", "猫"])))
    assert (got.num_classes, got.classes) == (3, ("ä", "b", "猫"))
    assert got.notes == ("no test images of 2 of 3 classes: b, 猫",)
    assert load(save(y_test=np.zeros(30, dtype=int))).notes == ("no test images of 2 of 3 classes: 1, 2",)


def test_without_training_images_there_is_a_test_set(save, failure):
    path = save(x_train=None, y_train=None)
    got = data.load(path, seed=0, data_dir=None, test_only=True)
    assert (len(got.x_train), len(got.x_val), len(got.x_test), got.num_classes) == (0, 0, 30, 3)
    assert failure(path, UsageError).startswith(f"{path} has no x_train: it needs x_train, y_train, x_test, y_test")
    half = save(x_train=None)
    with pytest.raises(UsageError, match="has no x_train"):  # labels of images that are not there: what was meant?
        data.load(half, seed=0, data_dir=None, test_only=True)


def test_images_that_are_all_alike_are_refused(save, failure):
    line = "own.npz: all 60 training images are equal, so there is nothing to tell them apart by"
    assert failure(save(x_train=np.full((60, 3, 6, 5), 7, np.uint8)), UsageError) == line


x60, x30 = np.zeros((60, 3, 6, 5), np.uint8), np.zeros((30, 3, 6, 5), np.uint8)
y60, y30 = np.arange(60) % 3, np.arange(30) % 3
AXES = "expected (N, H, W), (N, H, W, C) or (N, C, H, W)"
ARGMAX = "expected (N,); one-hot rows become labels by argmax(1)"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"x_test": None},
         "own.npz has no x_test: it needs x_train, y_train, x_test, y_test, and has x_train, y_test, y_train"),
        ({"x_train": x60 / 255}, "own.npz: x_train is float64, expected uint8 0..255"),
        ({"x_test": x30.astype(np.int64)}, "own.npz: x_test is int64, expected uint8 0..255"),
        ({"x_train": x60 > 0}, "own.npz: x_train is bool, expected uint8 0..255"),
        ({"x_train": x60.reshape(60, 90)}, f"own.npz: x_train has shape (60, 90), {AXES}"),
        ({"x_train": np.uint8(3)}, f"own.npz: x_train has shape (), {AXES}"),
        ({"x_train": x60[:, :, None]}, f"own.npz: x_train has shape (60, 3, 1, 6, 5), {AXES}"),
        ({"x_train": x60[:, :2]}, "own.npz: x_train has shape (60, 2, 6, 5): expected 1 or 3 channels as axis 1 or 3"),
        ({"x_train": x60[..., :3]},
         "own.npz: x_train has shape (60, 3, 6, 3): its channels may be axis 1 or 3; add a pixel of padding"),
        ({"x_train": x60[:0]}, "own.npz: x_train is empty: its shape is (0, 3, 6, 5)"),
        ({"x_test": x30[:, :, :0]}, "own.npz: x_test is empty: its shape is (30, 3, 0, 5)"),
        ({"x_test": x30[:, :, :4]}, "own.npz: x_train holds images of 3x6x5, but x_test of 3x4x5"),
        ({"x_test": x30[:, :1]}, "own.npz: x_train holds images of 3x6x5, but x_test of 1x6x5"),
        ({"y_train": y60[:50]}, "own.npz: x_train has 60 images, but y_train has 50 labels"),
        ({"y_test": np.append(y30, 0)}, "own.npz: x_test has 30 images, but y_test has 31 labels"),
        ({"y_test": y30[:0]}, "own.npz: y_test is empty"),
        ({"y_train": y60 * 1.0}, "own.npz: y_train is float64, expected integers 0..K-1"),
        ({"y_train": y60.astype(str)}, "own.npz: y_train is <U21, expected integers 0..K-1"),
        ({"y_train": np.eye(3, dtype=int)[y60]}, f"own.npz: y_train has shape (60, 3), {ARGMAX}"),
        ({"y_train": np.int64(3)}, f"own.npz: y_train has shape (), {ARGMAX}"),
        ({"y_train": y60 - 1}, "own.npz: y_train has the label -1, expected 0..K-1"),
        ({"y_test": y30.astype("u8") + np.uint64(2**63)},
         "own.npz: y_test has the label 9223372036854775810, expected 0..K-1"),
        ({"y_train": y60 + 1}, "own.npz: y_train has 3 classes numbered up to 3, and no 0: number them 0..2"),
        ({"y_train": y60 * 2**60},
         "own.npz: y_train has 3 classes numbered up to 2305843009213693952, and no 1: number them 0..2"),
        ({"y_train": y60 * 0}, "own.npz: y_train has 1 class, expected at least 2"),
        ({"y_train": np.append(y60[:59], 3)}, "own.npz: class 3 has 1 training image, expected at least 2"),
        ({"class_names": np.array(["a", "b"])}, "own.npz: class_names has 2 names, but there are 3 classes"),
        ({"class_names": np.arange(3)},
         "own.npz: class_names is int64 of shape (3,), expected text, a name for each class"),
        ({"y_test": y30 + 1}, "own.npz: y_test has the label 3, but y_train has only 0..2"),
        ({"y_train": np.array([0, 1, None] * 20)},
         "own.npz: y_train holds Python objects, expected plain numbers or text"),
    ],
)  # fmt: skip
def test_wrong_arrays(save, failure, changes, message):
    assert failure(save(**changes), UsageError) == message


class Trap:
    """Pickles to a call that the test would notice."""

    def __reduce__(self):
        return pytest.fail, ("a pickle in an .npz file was executed",)


def test_nothing_is_unpickled(save, failure):
    images = np.empty(60, dtype=object)
    images[:] = [Trap()] * 60
    assert failure(save(x_train=images), UsageError) == (
        "own.npz: x_train holds Python objects, expected plain numbers or text"
    )


NOT_ZIP = "own.npz is not an .npz file, or is cut short: write it with numpy.savez_compressed"


def test_not_a_zip(save, failure, tmp_path, arrays):
    name = save()
    content = (tmp_path / name).read_bytes()
    for broken in (b"", b"hello", content[: len(content) // 2], content[:-10], b"PK\3\4"):
        (tmp_path / name).write_bytes(broken)
        assert failure(name, UsageError) == NOT_ZIP
    with (tmp_path / name).open("wb") as file:
        np.save(file, arrays["x_train"])
    assert failure(name, UsageError) == NOT_ZIP


def test_a_damaged_member(save, failure, tmp_path):
    for write in (np.savez, np.savez_compressed):
        name = save(write)
        content = bytearray((tmp_path / name).read_bytes())
        content[600:640] = bytes(40)
        (tmp_path / name).write_bytes(content)
        assert failure(name, UsageError).startswith("own.npz: x_train is damaged (")


def rewrite(path, key, content):
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, old in members.items():
            archive.writestr(name, content if name == f"{key}.npy" else old)


@pytest.mark.parametrize(
    "content", [b"", b"\x93NUMPY", b"\x93NUMPY\x01\x00\xff\xff", b"\x93NUMPY\x09\x00v\x00", b"text"]
)
def test_members_that_are_not_arrays(save, failure, content):
    name = save()
    rewrite(name, "y_test", content)
    assert failure(name, UsageError).startswith("own.npz: y_test is damaged (")


def test_any_change_of_one_byte_gives_the_data_or_one_line(save, failure, tmp_path):
    name = save(np.savez)
    content = (tmp_path / name).read_bytes()
    rng = np.random.default_rng(0)
    # Headers and the directory at the end matter; pixels are covered by the checksum.
    places = np.concatenate([np.arange(0, 200, 3), len(content) - np.arange(1, 330, 3)])
    for place in places:
        broken = bytearray(content)
        broken[place] ^= int(rng.integers(1, 256))
        (tmp_path / name).write_bytes(broken)
        line = outcome(name)
        assert line.startswith(("read", "own.npz"))
        assert "\n" not in line


def header_of(shape):
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, {"descr": "|u1", "fortran_order": False, "shape": shape})
    return file.getvalue()


def test_a_header_that_promises_a_terabyte_reserves_none(save, failure):
    name = save()
    rewrite(name, "x_train", header_of((10**9, 3, 32, 32)) + bytes(100))
    assert failure(name, UsageError) == (
        "own.npz: x_train is cut short: its header says (1000000000, 3, 32, 32), the file holds less"
    )


@pytest.mark.parametrize("shape", [(-60, 3, 6, 5), (2**62, 2**62, 0, 3), (2**80, 0, 3)])
def test_impossible_shapes(save, failure, shape):
    name = save()
    rewrite(name, "x_train", header_of(shape))
    assert failure(name, UsageError).startswith("own.npz: x_train ")


def test_a_zip_bomb_is_refused_before_it_unpacks(save, failure, monkeypatch):
    name = save(x_train=np.zeros((3000, 3, 64, 64), np.uint8))
    monkeypatch.setattr("fatbench.data.arrays.LARGEST", 2**25)
    monkeypatch.setattr("fatbench.io.npz._read", lambda *_: pytest.fail("unpacked"))
    assert failure(name, UsageError) == "own.npz unpacks to 0.0343 GiB; at most 0.0312 GiB can be read"


def test_a_declared_size_of_terabytes(save, failure):
    """The size that the archive's directory declares is enough: 4 GiB - 2 in 32-bit fields, far more in zip64."""
    name = save()
    with zipfile.ZipFile(name, "a") as archive:
        archive.getinfo("x_train.npy").file_size = 80 * 2**30
        archive._didModify = True
    assert failure(name, UsageError) == "own.npz unpacks to 80 GiB; at most 64 GiB can be read"
