import numpy as np
import pytest
import torch
from PIL import Image

from fatbench import data
from fatbench.errors import ResourceError

WNIDS = ["n02", "n10", "n01"]  # the official list is not sorted either


@pytest.fixture
def tiny(tmp_path):
    """The official layout with three classes of four training images, and six labelled val images; one is grey."""
    folder = tmp_path / "tiny-imagenet-200"
    (folder / "val" / "images").mkdir(parents=True)
    (folder / "test" / "images").mkdir(parents=True)  # unlabelled, and not for us
    (folder / "wnids.txt").write_text("\n".join(WNIDS) + "\n")
    rng = np.random.default_rng(0)
    for wnid in WNIDS:
        (folder / "train" / wnid / "images").mkdir(parents=True)
        (folder / "train" / wnid / f"{wnid}_boxes.txt").write_text("ignored")
        for index in range(4):
            image = Image.fromarray(rng.integers(0, 256, (64, 64, 3), dtype=np.uint8))
            image.save(folder / "train" / wnid / "images" / f"{wnid}_{index}.JPEG")
    lines = []
    for index in range(6):
        shape = (64, 64) if index == 2 else (64, 64, 3)
        image = Image.fromarray(rng.integers(0, 256, shape, dtype=np.uint8))
        image.save(folder / "val" / "images" / f"val_{index}.JPEG")
        lines.append(f"val_{index}.JPEG\t{WNIDS[index % 3]}\t0\t32\t44\t62\n")
    (folder / "val" / "val_annotations.txt").write_text("".join(lines))
    return folder


def test_official_layout(tiny, tmp_path):
    dataset = data.load("tiny-imagenet", seed=0, data_dir=tmp_path)
    assert (dataset.name, dataset.shape, dataset.num_classes) == ("tiny-imagenet", (3, 64, 64), 3)
    assert (len(dataset.x_train), len(dataset.x_val), len(dataset.x_test)) == (11, 1, 6)
    assert dataset.y_test.tolist() == [1, 2, 0, 1, 2, 0]  # n01 < n02 < n10
    for index in range(6):
        with Image.open(tiny / "val" / "images" / f"val_{index}.JPEG") as image:
            expected = np.asarray(image.convert("RGB")).transpose(2, 0, 1)
        assert torch.equal(dataset.x_test[index], torch.from_numpy(expected.copy()))
    assert torch.equal(dataset.x_test[2, 0], dataset.x_test[2, 1])


def test_missing(tmp_path, failure):
    expected = (
        f"no tiny-imagenet in {tmp_path}: put the folder tiny-imagenet-200 there, unpacked from "
        "http://cs231n.stanford.edu/tiny-imagenet-200.zip, or name its parent folder with "
        "--data-dir / FATBENCH_DATA; --download does not fetch it"
    )
    assert failure("tiny-imagenet", ResourceError, tmp_path) == expected
    assert failure("tiny-imagenet", ResourceError, tmp_path, download=True) == expected


def damaged(root, reason):
    return f"tiny-imagenet in {root} is incomplete or damaged ({reason}); unpack it again"


def test_incomplete(tiny, tmp_path, failure):
    def line():
        return failure("tiny-imagenet", ResourceError, tmp_path)

    (tiny / "val" / "images" / "val_3.JPEG").rename(tiny / "elsewhere")
    image = tiny / "val" / "images" / "val_3.JPEG"
    assert line() == damaged(tmp_path, f"cannot read {image}: No such file or directory")
    Image.fromarray(np.zeros((32, 64, 3), np.uint8)).save(image)
    assert line() == damaged(
        tmp_path, f"{image} is 64x32 pixels, but most others are 64x64: crop or scale all images to one size first"
    )
    (tiny / "elsewhere").rename(image)

    annotations = tiny / "val" / "val_annotations.txt"
    whole = annotations.read_text()
    annotations.write_text(whole.replace("n10", "n99"))
    assert line() == damaged(tmp_path, "KeyError: 'n99'")
    annotations.write_text("no tabs here\n")
    assert line().startswith(f"tiny-imagenet in {tmp_path} is incomplete or damaged (ValueError: ")
    annotations.write_text("")
    assert line() == damaged(tmp_path, f"{tiny}: x_test is empty: its shape is (0, 3, 64, 64)")
    annotations.unlink()
    assert line() == damaged(tmp_path, f"cannot read {annotations}: No such file or directory")
    annotations.write_text(whole)

    (tiny / "train" / "n02" / "images").rename(tiny / "elsewhere")
    assert "n02" in line()
    (tiny / "wnids.txt").write_bytes(b"\xff\xfe")
    assert line().startswith(f"tiny-imagenet in {tmp_path} is incomplete or damaged (UnicodeDecodeError: ")
    (tiny / "wnids.txt").unlink()
    assert "wnids.txt" in line()
