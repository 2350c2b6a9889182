"""Own image folders: what is read, and the exact line for everything that can be wrong."""

import struct
import zlib

import numpy as np
import pytest
import torch
from PIL import Image

from fatbench import data
from fatbench.data.images import SUFFIXES
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


def test_what_systems_leave_is_ignored_without_a_word(folder):
    (folder / "train" / "a" / ".DS_Store").touch()
    (folder / "train" / "a" / "._0.png").write_bytes(b"a resource fork")
    (folder / "train" / "a" / "Thumbs.db").touch()
    (folder / "train" / "a" / "__MACOSX").mkdir()
    (folder / "train" / "a" / "__MACOSX" / "0.png").touch()
    (folder / "train" / ".cache").mkdir()
    (folder / "train" / "list.csv").touch()
    dataset = load()
    assert (dataset.num_classes, len(dataset.x_train), dataset.notes) == (3, 8, ())


def test_files_that_are_no_images_are_counted_and_named(folder):
    for name in ("photo.HEIC", "another.heic", "notes.txt", "README"):
        (folder / "train" / "a" / name).touch()
    assert load().notes == ("4 files in train/a were left out: .heic, .txt, no suffix",)
    (folder / "train" / "b" / "1.heic").touch()
    (folder / "test" / "C" / "1.raw").touch()
    assert load().notes == (
        "5 files in 2 classes of train were left out: .heic, .txt, no suffix",
        "1 file in test/C was left out: .raw",
    )
    for index in range(2):
        (folder / "test" / "a" / f"{index}.png").rename(folder / "test" / "a" / f"{index}.heic")
    assert outcome().endswith("); it has 2 files: .heic")


def test_images_in_subfolders_are_used_and_a_circle_of_links_ends(folder):
    deeper = folder / "train" / "a" / "2024" / "summer"
    deeper.mkdir(parents=True)
    Image.fromarray(pixels(6, 5, seed=1)).save(deeper / "9.png")
    (deeper / "again").symlink_to(folder / "train" / "a", target_is_directory=True)
    dataset = load()
    assert len(dataset.x_train) + len(dataset.x_val) == 10
    assert dataset.notes == ()


@pytest.mark.parametrize("suffix", ["tif", "TIFF", "ppm", "gif"])
def test_other_formats_are_images_too(folder, suffix):
    image = Image.fromarray(pixels(6, 5, 3, seed=1))
    image = image.convert("P") if suffix == "gif" else image
    image.save(folder / "test" / "a" / f"9.{suffix}")
    assert torch.equal(load().x_test[4], torch.from_numpy(np.asarray(image.convert("RGB")).transpose(2, 0, 1)))


@pytest.mark.parametrize("kind", ["RGBA", "LA", "P", "L", "opaque"])
def test_transparent_pixels_are_put_on_white_and_counted(folder, kind):
    """The picture may be in the transparency alone: dropped, all images would be black."""
    seen = np.zeros((6, 5), np.uint8)
    seen[:3] = 255
    black = Image.new("RGBA", (5, 6), (0, 0, 0, 255))
    black.putalpha(Image.fromarray(seen if kind != "opaque" else np.full((6, 5), 255, np.uint8)))
    path = folder / "test" / "a" / "9.png"
    if kind in ("P", "L"):  # one of the colours is transparent
        image = Image.fromarray(np.where(seen, 7, 1).astype(np.uint8))
        image = image if kind == "L" else image.convert("P")
        image.save(path, transparency=1)
    else:
        black.convert("RGBA" if kind == "opaque" else kind).save(path)
    dataset = load()
    assert dataset.notes == (
        () if kind == "opaque" else ("1 of 16 images have transparent pixels and were put on white",)
    )
    top, bottom = dataset.x_test[4][..., :3, :], dataset.x_test[4][..., 3:, :]
    assert int(top.max()) < 10
    assert (bottom == (0 if kind == "opaque" else 255)).all()
    assert dataset.shape[0] == (1 if kind in ("LA", "L") else 3)


def test_photographs_are_turned_upright(folder):
    """A camera that was held upright writes a picture that lies on its side, and says so."""
    upright = pixels(6, 5, 3, seed=1)
    exif = Image.Exif()
    exif[0x0112] = 6  # turn clockwise by 90 degrees
    Image.fromarray(np.rot90(upright)).save(folder / "test" / "a" / "9.webp", exif=exif, lossless=True)
    dataset = load()
    assert dataset.notes == ("1 of 16 images were turned as their EXIF data say",)
    assert torch.equal(dataset.x_test[4], torch.from_numpy(upright.transpose(2, 0, 1)))


def test_a_phones_second_picture_is_no_second_frame(folder):
    first, second = (Image.fromarray(pixels(6, 5, 3, seed=seed)) for seed in (1, 2))
    first.save(folder / "test" / "a" / "9.jpg", format="MPO", save_all=True, append_images=[second])
    assert load().shape == (3, 6, 5)


@pytest.mark.parametrize("suffix", ["gif", "tif", "webp", "png"])
def test_which_of_several_frames_is_not_guessed(folder, failure, suffix):
    frames = [Image.fromarray(pixels(6, 5, seed=seed)) for seed in range(3)]
    frames[0].save(folder / "test" / "a" / f"9.{suffix}", save_all=True, append_images=frames[1:])
    assert failure("own", UsageError) == (
        f"own/test/a/9.{suffix} has 3 frames: save the one that is meant as a file of its own"
    )


def deep_png(colours):
    def chunk(kind, content):
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", 5, 6, 16, {1: 0, 3: 2, 4: 6}[colours], 0, 0, 0)
    rows = (b"\0" + bytes(10 * colours)) * 6
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    ("name", "content"),
    [
        *((f"{colours}.png", deep_png(colours)) for colours in (1, 3, 4)),
        ("deep.ppm", b"P6 5 6 65535\n" + bytes(180)),
        ("deep.pgm", b"P5 5 6 65535\n" + bytes(60)),
    ],
)
def test_sixteen_bits_are_not_silently_eight(folder, failure, name, content):
    (folder / "test" / "a" / name).write_bytes(content)
    assert failure("own", UsageError) == f"own/test/a/{name} has 16 bits per channel; save it with 8 bits per channel"


def test_classes_have_names_and_one_may_have_no_test_image(folder):
    assert load().classes == ("C", "a", "b")
    remove(folder / "test" / "C")
    dataset = load()
    assert dataset.y_test.tolist() == [1, 1, 2, 2]
    assert dataset.notes == ("no test images of 1 of 3 classes: C",)


@pytest.mark.parametrize("name", ["val", "validation"])
def test_a_folder_of_another_name_is_asked_about(folder, failure, name):
    (folder / "test").rename(folder / name)
    assert failure("own", UsageError) == f"own has no folder 'test': {LAYOUT}; is '{name}' what is meant? Rename it"


def test_images_that_are_all_alike_are_refused(folder, failure):
    for path in folder.glob("train/*/*.png"):
        Image.new("L", (5, 6)).save(path)
    assert failure("own", UsageError) == (
        "own: all 9 training images are equal, so there is nothing to tell them apart by"
    )


def test_without_training_images_there_is_a_test_set(folder):
    remove(folder / "train")
    dataset = data.load("own", seed=0, data_dir=None, test_only=True)
    assert (len(dataset.x_train), len(dataset.x_val), len(dataset.x_test), dataset.num_classes) == (0, 0, 6, 3)
    assert dataset.shape == (1, 6, 5)
    assert outcome() == f"own has no folder 'train': {LAYOUT}"


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
        (["test/a/0.png", "test/a/1.png"], f"own/test/a has no images ({', '.join(SUFFIXES)})"),
        (["train/a/0.png", "train/a/1.png"], "own/train/a has 1 image, expected at least 2"),
        (["train/a", "train/b", "test/a", "test/b"], "own/train has 1 class, expected at least 2"),
    ],
)
def test_what_is_missing(folder, failure, gone, message):
    for path in gone:
        remove(folder / path)
    assert failure("own", UsageError) == message


SIZES = "but most others are 5x6: crop or scale all images to one size first"


@pytest.mark.parametrize("odd", ["train/C/0.png", "train/a/1.png", "test/b/1.png"])
def test_an_odd_size_is_named_even_if_it_comes_first(folder, failure, odd):
    Image.fromarray(pixels(7, 5)).save(folder / odd)
    assert failure("own", UsageError) == f"own/{odd} is 5x7 pixels, {SIZES}"


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
    assert failure("own", UsageError) == "own/train/a/1.png has 16 bits per channel; save it with 8 bits per channel"


def test_no_decoder_runs_that_the_suffix_does_not_announce(folder, failure):
    Image.fromarray(pixels(6, 5)).save(folder / "train" / "a" / "1.png", format="TIFF")
    assert failure("own", UsageError) == (
        "cannot read the image own/train/a/1.png (UnidentifiedImageError); replace or remove it"
    )


def test_more_pixels_than_can_be_meant(folder, failure, monkeypatch):
    monkeypatch.setattr("fatbench.data.arrays.LARGEST", 200)
    assert failure("own", UsageError) == "own holds 0 GiB of pixels; at most 0 GiB can be read"
