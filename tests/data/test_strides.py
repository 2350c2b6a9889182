"""Images lie in memory as people expect: a network may `view` the maps of its first convolution."""

import pytest

from fatbench import data


@pytest.mark.parametrize("part", ["x_train", "x_val", "x_test"])
def test_grey_images_have_plain_strides(part: str) -> None:
    dataset = data.load("digits", seed=0, data_dir=None, download=False)
    images = getattr(dataset, part)
    assert images.stride() in ((64, 64, 8, 1), (64, 8, 8, 1))
    assert images[:7].clone().is_contiguous()
    assert images.stride() != (64, 1, 8, 1)
