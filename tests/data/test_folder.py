"""Own image folders: what is read, and the exact line for everything that can be wrong."""

import numpy as np
import pytest
import torch
from PIL import Image

from fatbench import data
from fatbench.errors import UsageError


def pixels(*shape, seed=0):
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """own/: classes b, a and C; three training and two test images of 6x5 (height by width) each, grey PNGs."""
    monkeypatch.chdir(tmp_path)
    for side, count in (("train", 3), ("test", 2)):
        for number, name in enumerate(["b", "a", "C"]):
            (tmp_path / "own" / side / name).mkdir(parents=True)
            for index in range(count):
                image = Image.fromarray(pixels(6, 5, seed=100 * count + 10 * number + index))
                image.save(tmp_path / "own" / side / name / f"{index}.png")
    return tmp_path / "own"


def load():
    return data.load("own", seed=0, data_dir=None)


def outcome():
    try:
        load()
    except UsageError as error:
        return str(error)
    return "read"


def test_grey_images_in_order_of_class_and_name(folder):
    dataset = load()
    assert dataset.shape == (1, 6, 5)
    assert (dataset.name, dataset.num_classes) == ("own", 3)
    assert (len(dataset.x_train), len(dataset.x_val)) == (8, 1)
    assert dataset.y_test.tolist() == [0, 0, 1, 1, 2, 2]
    order = [(2, 0), (2, 1), (1, 0), (1, 1), (0, 0), (0, 1)]  # "C" < "a" < "b", as on every platform
    expected = np.stack([pixels(6, 5, seed=200 + 10 * number + index) for number, index in order])
    assert torch.equal(dataset.x_test[:, 0], torch.from_numpy(expected))


@pytest.mark.parametrize("suffix", ["png", "PNG", "bmp", "webp", "jpg", "jpeg"])
def test_one_colour_image_makes_all_colour(folder, suffix):
    colour = pixels(6, 5, 3)
    options = {"lossless": True} if suffix == "webp" else {}
    Image.fromarray(colour).save(folder / "test" / "a" / f"9.{suffix}", **options)
    dataset = load()
    assert dataset.shape == (3, 6, 5)
    if suffix not in ("jpg", "jpeg"):
        assert torch.equal(dataset.x_test[4], torch.from_numpy(colour.transpose(2, 0, 1)))
    grey = dataset.x_test[0]
    assert torch.equal(grey[0], grey[1])
    assert torch.equal(grey[0], grey[2])


def test_palettes_and_transparency_become_colour(folder):
    Image.fromarray(pixels(6, 5, 4)).save(folder / "train" / "a" / "8.png")
    Image.fromarray(pixels(6, 5, 3)).convert("P").save(folder / "train" / "a" / "9.png")
    assert load().shape == (3, 6, 5)


def test_other_files_are_ignored(folder):
    (folder / "train" / "a" / ".DS_Store").touch()
    (folder / "train" / "a" / "._0.png").write_bytes(b"a resource fork")
    (folder / "train" / "a" / "notes.txt").touch()
    (folder / "train" / ".cache").mkdir()
    (folder / "train" / "list.csv").touch()
    assert load().num_classes == 3


LAYOUT = "an image folder holds train/CLASS/ and test/CLASS/"


def remove(path):
    if path.is_dir():
        for child in path.iterdir():
            remove(child)
        path.rmdir()
    else:
        path.unlink()


@pytest.mark.parametrize(
    ("gone", "message"),
    [
        (["test"], f"own has no folder 'test': {LAYOUT}"),
        (["train"], f"own has no folder 'train': {LAYOUT}"),
        (["train/a", "train/b", "train/C"], f"own/train has no folders: {LAYOUT}"),
        (["train/a"], "own: class 'a' is in test but not in train"),
        (["test/C", "test/b"], "own: class 'C' is in train but not in test"),
        (["test/a/0.png", "test/a/1.png"], "own/test/a has no images (.png, .jpg, .jpeg, .webp, .bmp)"),
        (["train/a/0.png", "train/a/1.png"], "own/train/a has 1 image, expected at least 2"),
        (["train/a", "train/b", "test/a", "test/b"], "own/train has 1 class, expected at least 2"),
    ],
)
def test_what_is_missing(folder, failure, gone, message):
    for path in gone:
        remove(folder / path)
    assert failure("own", UsageError) == message


@pytest.mark.parametrize("odd", ["train/C/0.png", "train/a/1.png", "test/b/1.png"])
def test_an_odd_size_is_named_even_if_it_comes_first(folder, failure, odd):
    Image.fromarray(pixels(7, 5)).save(folder / odd)
    assert failure("own", UsageError) == f"own/{odd} is 5x7 pixels, but the others are 5x6"


def test_unreadable_images_are_named(folder, failure):
    path = folder / "train" / "a" / "1.png"
    whole = path.read_bytes()
    for broken in (b"", b"not an image", whole[:20], whole[:60]):
        path.write_bytes(broken)
        line = failure("own", UsageError)
        assert line.startswith("cannot read the image own/train/a/1.png (")
        assert line.endswith("); replace or remove it")


def test_any_change_of_one_byte_gives_the_data_or_one_line(folder):
    path = folder / "train" / "a" / "1.png"
    whole = path.read_bytes()
    for place in range(len(whole)):
        broken = bytearray(whole)
        broken[place] ^= 0x55
        path.write_bytes(broken)
        assert outcome().startswith(("read", "cannot read the image own/train/a/1.png", "own/train/a/1.png "))


def test_deep_pixels_are_refused_because_conversion_would_clip_them(folder, failure):
    Image.fromarray(np.full((6, 5), 40_000, np.uint16)).save(folder / "train" / "a" / "1.png")
    assert failure("own", UsageError) == ("own/train/a/1.png has pixels of mode I;16; save it with 8 bits per channel")


def test_no_decoder_runs_that_the_suffix_does_not_announce(folder, failure):
    Image.fromarray(pixels(6, 5)).save(folder / "train" / "a" / "1.png", format="TIFF")
    assert failure("own", UsageError) == (
        "cannot read the image own/train/a/1.png (UnidentifiedImageError); replace or remove it"
    )


def test_more_pixels_than_can_be_meant(folder, failure, monkeypatch):
    monkeypatch.setattr("fatbench.data.arrays.LARGEST", 200)
    assert failure("own", UsageError) == "own holds 0 GiB of pixels; at most 0 GiB can be read"
