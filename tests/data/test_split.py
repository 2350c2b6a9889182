import numpy as np
import pytest
import torch

from fatbench.data.arrays import Arrays
from fatbench.data.split import split
from fatbench.errors import UsageError


def numbered(counts, seed=0):
    """Images of 2x2 that hold their row number, with the given class sizes, shuffled."""
    labels = np.random.default_rng(seed).permutation(np.repeat(np.arange(len(counts)), counts))
    x = np.arange(len(labels), dtype="<u4").view(np.uint8).reshape(-1, 1, 2, 2)
    return Arrays(x, labels, x[:4], np.array([0, 1, 0, 1]))


def numbers(x):
    return x.numpy().reshape(-1, 4).copy().view("<u4")[:, 0]


@pytest.mark.parametrize(
    ("counts", "validation"),
    [([10_000] * 2, 1_000), ([9_999] * 2, 999), ([400, 300, 300], 50), ([5, 5], 1), ([2, 2], 1), ([17, 3, 40], 3)],
)
def test_validation_size_and_stratification(counts, validation):
    arrays = numbered(counts)
    dataset = split(arrays, "it", seed=3)
    assert len(dataset.x_val) == validation
    held = dataset.y_val.bincount(minlength=len(counts)).numpy()
    assert np.abs(held - np.array(counts) * validation / sum(counts)).max() < 1
    assert dataset.y_train.bincount(minlength=len(counts)).min() >= 1
    train, val = numbers(dataset.x_train), numbers(dataset.x_val)
    assert sorted([*train, *val]) == list(range(sum(counts)))
    assert np.array_equal(arrays.y_train[train], dataset.y_train.numpy())
    assert np.array_equal(arrays.y_train[val], dataset.y_val.numpy())


def test_every_image_can_be_held_out():
    arrays = numbered([30, 30])
    held = {int(n) for seed in range(60) for n in numbers(split(arrays, "it", seed=seed).x_val)}
    assert len(held) > 50


def test_limit_train_is_stratified_and_leaves_the_validation_images_alone():
    arrays = numbered([600, 300, 100])
    full = split(arrays, "it", seed=5)
    kept: set[int] = set()
    for limit in (10, 100, 101, 500):
        dataset = split(arrays, "it", seed=5, limit_train=limit)
        assert dataset.subset
        assert torch.equal(dataset.x_val, full.x_val)
        assert len(dataset.x_train) == limit
        share = full.y_train.bincount().numpy() * limit / len(full.x_train)
        assert np.abs(dataset.y_train.bincount(minlength=3).numpy() - share).max() < 1
        rows = set(numbers(dataset.x_train).tolist())
        assert kept < rows < set(numbers(full.x_train).tolist())
        kept = rows


@pytest.mark.parametrize("seed", range(5))
def test_as_few_training_images_as_classes_are_one_of_each(seed):
    # 30 of 600 are held out, 5 too many or too few for some classes; what is kept must not continue that pattern.
    dataset = split(numbered([25] * 24), "it", seed=seed, limit_train=24)
    assert (dataset.y_train.bincount(minlength=24) - 1).abs().sum() <= 2


def test_limit_train_up_to_all():
    arrays = numbered([30, 30])
    assert len(split(arrays, "it", seed=0, limit_train=57).x_train) == 57
    for limit in (58, 0, -1):
        with pytest.raises(UsageError, match=rf"^--limit-train {limit}: it has 57 training images$"):
            split(arrays, "it", seed=0, limit_train=limit)


def test_the_global_generators_are_left_alone_and_not_asked():
    arrays = numbered([30, 30])
    torch.manual_seed(0)
    np.random.seed(0)
    first = split(arrays, "it", seed=0)
    drawn = (torch.rand(1).item(), np.random.rand())
    second = split(arrays, "it", seed=0)
    torch.manual_seed(0)
    np.random.seed(0)
    assert drawn == (torch.rand(1).item(), np.random.rand())
    assert torch.equal(first.x_val, second.x_val)
