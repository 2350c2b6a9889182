"""A batch's view: it finds in padded images what the loader cut out of them, and puts it back there."""

import pytest
import torch
import torch.nn.functional as F

from fatbench.crop_flip import NO_CROP, CropFlip
from fatbench.data.loader import Loader, to_float

HEIGHT, WIDTH = 6, 5
augmentations = pytest.mark.parametrize(
    ("pad", "flip"), [(0, False), (0, True), (2, False), (2, True)], ids=["none", "flip", "crop", "both"]
)


def images(count, pad=0, channels=3):
    return torch.rand(count, channels, HEIGHT + 2 * pad, WIDTH + 2 * pad, generator=torch.Generator().manual_seed(0))


def views(pad, flip, count=4):
    """The views of some batches of eight images."""
    x, y = torch.zeros(40, 3, HEIGHT, WIDTH, dtype=torch.uint8), torch.zeros(40, dtype=torch.int64)
    loader = Loader(x, y, batch_size=8, seed=1, pad=pad, flip=flip)
    return [loader.crop_flip(loader.plan(k)) for k in range(count)]


def places(view, image):
    """The pixels of a padded image that the view of image number `image` shows, from left to right, row by row."""
    top, left = (0, 0) if view.top is None else (int(view.top[image]), int(view.left[image]))
    across = [left + column for column in range(WIDTH)]
    if view.flip is not None and view.flip[image]:
        across.reverse()
    return [[(top + row, column) for column in across] for row in range(HEIGHT)]


@augmentations
def test_a_crop_of_the_padded_images_is_the_loaders_batch(pad, flip):
    x = (256 * images(40)).to(torch.uint8)
    loader = Loader(x, torch.zeros(40, dtype=torch.int64), batch_size=8, seed=1, pad=pad, flip=flip)
    for k in range(2 * len(loader)):
        plan = loader.plan(k)
        padded = F.pad(x, (pad,) * 4)[plan.rows]
        assert torch.equal(to_float(loader.crop_flip(plan).crop(padded)), loader.batch(k).x)


@augmentations
def test_a_crop_is_what_its_places_say_pixel_by_pixel(pad, flip):
    canvas = images(8, pad)
    for view in views(pad, flip):
        crop = view.crop(canvas)
        for image in range(8):
            for row, line in enumerate(places(view, image)):
                for column, (down, across) in enumerate(line):
                    assert torch.equal(crop[image, :, row, column], canvas[image, :, down, across])


@augmentations
def test_what_is_pasted_is_found_again_and_the_rest_is_untouched(pad, flip):
    canvas, z = images(8, pad), -1.0 - images(8)
    before = canvas.clone()
    for view in views(pad, flip):
        pasted = view.paste(z, canvas)
        assert torch.equal(view.crop(pasted), z)
        assert torch.equal(view.paste(view.crop(canvas), canvas), canvas)
        for image in range(8):
            shown = torch.zeros(canvas.shape[2:], dtype=torch.bool)
            for line in places(view, image):
                for place in line:
                    shown[place] = True
            assert (pasted[image, :, shown] < 0).all()
            assert torch.equal(pasted[image, :, ~shown], before[image, :, ~shown])
        assert torch.equal(canvas, before)


def test_the_whole_is_the_image_itself():
    x = images(8)
    assert torch.equal(NO_CROP.crop(x), x)
    assert torch.equal(NO_CROP.paste(x, torch.zeros_like(x)), x)


def test_what_is_pasted_takes_the_canvas_type():
    view = CropFlip(1, torch.tensor([2]), torch.tensor([0]), torch.tensor([True]))
    canvas = torch.zeros(1, 3, HEIGHT + 2, WIDTH + 2, dtype=torch.bfloat16)
    z = images(1)
    pasted = view.paste(z, canvas)
    assert pasted.dtype == torch.bfloat16
    assert torch.equal(view.crop(pasted), z.to(torch.bfloat16))
