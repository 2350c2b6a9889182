import hashlib

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from fatbench import data


def rows(x):
    return {bytes(image.numpy().tobytes()) for image in x}


def test_sizes_types_and_layout(digits):
    assert (len(digits.x_train), len(digits.x_val), len(digits.x_test)) == (1200, 100, 497)
    for x, y in ((digits.x_train, digits.y_train), (digits.x_val, digits.y_val), (digits.x_test, digits.y_test)):
        assert x.dtype == torch.uint8
        assert x.shape[1:] == digits.shape == (1, 8, 8)
        assert x.is_contiguous()
        assert y.dtype == torch.int64
        assert y.shape == (len(x),)
    assert (digits.name, digits.num_classes, digits.subset) == ("digits", 10, False)


def test_every_image_is_there_once_with_its_label_and_grey_level(digits):
    original = load_digits()
    # By integers: round(v * 255 / 16), half to even (only v = 8 is a half: 127.5 -> 128).
    levels = [(v * 255 * 2 + 16) // 32 for v in range(17)]
    expected = {bytes(levels[int(v)] for v in image.ravel()): int(y) for image, y in zip(original.images, original.target, strict=True)}  # fmt: skip  # noqa: E501
    x = torch.cat([digits.x_train, digits.x_val, digits.x_test])
    y = torch.cat([digits.y_train, digits.y_val, digits.y_test])
    found = {image.numpy().tobytes(): int(label) for image, label in zip(x, y, strict=True)}
    assert len(found) == 1797
    assert found == expected


def test_the_test_set_is_fixed_and_the_validation_set_is_not(digits):
    other = data.load("digits", seed=1, data_dir=None)
    assert torch.equal(digits.x_test, other.x_test)
    assert torch.equal(digits.y_test, other.y_test)
    assert rows(digits.x_val) != rows(other.x_val)
    assert rows(digits.x_val) | rows(digits.x_train) == rows(other.x_val) | rows(other.x_train)
    assert digits.sha256 == other.sha256


def test_the_test_set_never_changes_again(digits):
    """A change of this digest changes every score on digits: raise record.PROTOCOL with it."""
    digest = hashlib.sha256(digits.x_test.numpy().tobytes() + digits.y_test.numpy().tobytes()).hexdigest()
    assert digest[:16] == "658ac3cb801727dd"


def test_every_part_is_stratified(digits):
    labels = [digits.y_train, digits.y_val, digits.y_test]
    total = torch.cat(labels).bincount().numpy()
    for part in labels:
        assert np.abs(part.bincount().numpy() - total * len(part) / 1797).max() < 2
    assert digits.y_val.bincount().tolist() == [10] * 10


def test_the_same_seed_gives_the_same_split(digits):
    again = data.load("digits", seed=0, data_dir=None)
    assert torch.equal(again.x_val, digits.x_val)
    assert torch.equal(again.x_train, digits.x_train)


@pytest.mark.parametrize("part", ["x_train", "x_val", "x_test"])
def test_grey_images_have_plain_strides(part: str) -> None:
    """A network may `view` the maps of its first convolution."""
    dataset = data.load("digits", seed=0, data_dir=None, download=False)
    images = getattr(dataset, part)
    assert images.stride() in ((64, 64, 8, 1), (64, 8, 8, 1))
    assert images[:7].clone().is_contiguous()
    assert images.stride() != (64, 1, 8, 1)
