import dataclasses
import hashlib

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fatbench.data.arrays import KEYS
from fatbench.data.dataset import Dataset
from fatbench.data.digits import read_digits
from fatbench.data.ranking import stratified_order
from fatbench.data.split import split
from fatbench.errors import UsageError


def shuffled(dataset, seed=0):
    order = torch.from_numpy(np.random.default_rng(seed).permutation(len(dataset.x_test)))
    return dataclasses.replace(dataset, x_test=dataset.x_test[order], y_test=dataset.y_test[order])


def with_training(x):
    few, y = x[:2], torch.zeros(2, dtype=torch.int64)
    return Dataset(
        "it", x, torch.zeros(len(x), dtype=torch.int64), few, y, few, y, num_classes=2, subset=False, sha256="0"
    )


@pytest.mark.parametrize("n", [1, 9, 10, 100, 250, 496])
def test_subsets_are_stratified(digits, n):
    rows = digits.test_subset(n)
    assert rows.dtype == torch.int64
    assert len(set(rows.tolist())) == n
    counts = digits.y_test[rows].bincount(minlength=10).numpy()
    share = digits.y_test.bincount().numpy() * n / 497
    assert np.abs(counts - share).max() < 1


def test_subsets_are_nested(digits):
    largest = digits.test_subset(400).tolist()
    for n in range(1, 400, 13):
        assert digits.test_subset(n).tolist() == largest[:n]


def test_subsets_do_not_depend_on_the_order_of_the_file(digits):
    other = shuffled(digits)
    for n in (7, 100, 333):
        here, there = digits.test_subset(n), other.test_subset(n)
        assert torch.equal(digits.x_test[here], other.x_test[there])
        assert torch.equal(digits.y_test[here], other.y_test[there])


def test_all_rows_keep_the_order_of_the_file(digits):
    for n in (None, 497, 10_000):
        assert digits.test_subset(n).tolist() == list(range(497))


def test_an_empty_subset_is_refused(digits):
    with pytest.raises(UsageError, match=r"^a test subset has at least 1 image, not 0$"):
        digits.test_subset(0)


def test_changing_a_subset_in_place_changes_nothing(digits):
    before = digits.test_subset(20).tolist()
    digits.test_subset(20).zero_()
    assert digits.test_subset(20).tolist() == before


def test_images_rank_by_the_sha256_of_their_pixels(digits):
    order = digits.test_subset(496)
    threes = [digits.x_test[row].numpy().tobytes() for row in order if digits.y_test[row] == 3]
    ranks = [hashlib.sha256(pixels).hexdigest() for pixels in threes]
    assert ranks == sorted(ranks)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 60), min_size=1, max_size=12).filter(any), st.integers(0, 2**32))
def test_every_beginning_of_the_order_is_within_one_image_of_its_share(counts, seed):
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.repeat(np.arange(len(counts)), counts))
    order = stratified_order(labels, rng.integers(0, 50, len(labels)).astype(np.uint64))
    assert sorted(order) == list(range(len(labels)))
    so_far = np.cumsum(np.eye(len(counts))[labels[order]], axis=0)
    share = np.arange(1, len(labels) + 1)[:, None] * np.array(counts) / len(labels)
    assert np.abs(so_far - share).max() < 1


@pytest.mark.parametrize("shape", [(5, 1, 3, 4), (2500, 3, 4, 4)])
def test_mean_and_std_are_those_of_the_training_images(shape):
    x = torch.from_numpy(np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8))
    dataset = with_training(x)
    pixels = x.numpy().astype(np.float64) / 255
    assert dataset.mean == pytest.approx(pixels.mean((0, 2, 3)), abs=1e-12)
    assert dataset.std == pytest.approx(pixels.std((0, 2, 3)), abs=1e-12)
    assert all(type(value) is float for value in dataset.mean + dataset.std)


def test_a_constant_channel_has_a_std_to_divide_by():
    x = torch.full((4, 3, 2, 2), 255, dtype=torch.uint8)
    x[:, 1] = 0
    dataset = with_training(x)
    assert dataset.mean == (1.0, 0.0, 1.0)
    assert dataset.std == (1 / 255,) * 3


def test_sha256_identifies_the_whole_set_whatever_the_seed_and_the_subset():
    arrays = read_digits()
    whole = split(arrays, "digits", seed=0).sha256
    assert split(arrays, "digits", seed=1, limit_train=100).sha256 == whole
    back_to_front = {key: getattr(arrays, key)[::-1].copy() for key in KEYS}
    assert dataclasses.replace(arrays, **back_to_front).sha256 == whole


def test_sha256_changes_with_a_pixel_a_label_or_the_split():
    arrays = read_digits()
    seen = {arrays.sha256}
    for key in KEYS:
        values = getattr(arrays, key).copy()
        values.flat[0] += 1
        seen.add(dataclasses.replace(arrays, **{key: values}).sha256)
    x, y = arrays.x_train, arrays.y_train
    swapped = dataclasses.replace(arrays, x_train=arrays.x_test, y_train=arrays.y_test, x_test=x, y_test=y)
    seen.add(swapped.sha256)
    assert len(seen) == 6
    assert all(len(digest) == 64 for digest in seen)


def test_to_moves_every_tensor_and_keeps_the_rest(digits):
    moved = digits.to("meta")
    tensors = [value for value in vars(moved).values() if isinstance(value, torch.Tensor)]
    assert len(tensors) == 6
    assert {tensor.device.type for tensor in tensors} == {"meta"}
    assert (moved.name, moved.num_classes, moved.subset) == ("digits", 10, False)
    assert digits.to("cpu").test_subset(9).tolist() == digits.test_subset(9).tolist()


def test_it_cannot_be_changed(digits):
    with pytest.raises(dataclasses.FrozenInstanceError):
        digits.name = "other"
