import numpy as np
import pytest
import torch

from fatbench.data.loader import Loader, draw_plan, to_float
from fatbench.errors import UsageError


def images(count, channels=3, height=6, width=5):
    rng = np.random.default_rng(0)
    x = torch.from_numpy(rng.integers(0, 256, (count, channels, height, width), dtype=np.uint8))
    return x, torch.from_numpy(rng.integers(0, 10, count))


def loader(count=50, batch_size=8, seed=1, pad=2, flip=True, **shape):
    x, y = images(count, **shape)
    return Loader(x, y, batch_size=batch_size, seed=seed, pad=pad, flip=flip)


def naive(x, row, top, left, flip, pad):
    """One image: pad with zeros, crop, mirror, divide."""
    padded = np.pad(x[row].numpy(), ((0, 0), (pad, pad), (pad, pad)))
    height, width = x.shape[2:]
    crop = padded[:, top : top + height, left : left + width]
    if flip:
        crop = crop[:, :, ::-1]
    return crop.astype(np.float32) / np.float32(255)


@pytest.mark.parametrize("pad", [0, 1, 4, 9])
@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("channels", [1, 3])
def test_batches_equal_the_naive_loop_bit_for_bit(pad, flip, channels):
    x, y = images(50, channels)
    batches = Loader(x, y, batch_size=8, seed=1, pad=pad, flip=flip)
    for k in range(2 * len(batches)):
        epoch, index = divmod(k, len(batches))
        plan = draw_plan(50, pad, seed=1, epoch=epoch, device=torch.device("cpu"))
        rows, top, left, mirrored = (values[8 * index : 8 * index + 8].tolist() for values in plan)
        expected = [naive(x, *one, pad) for one in zip(rows, top, left, [m and flip for m in mirrored], strict=True)]
        batch = batches.batch(k)
        assert np.array_equal(batch.x.numpy(), np.stack(expected))
        assert torch.equal(batch.ids, torch.tensor(rows))
        assert torch.equal(batch.y, y[rows])


def test_types_and_layout():
    for pad, flip in ((0, False), (0, True), (2, False), (2, True)):
        x, y, ids = loader(pad=pad, flip=flip).batch(3)
        assert (x.shape, x.dtype, y.dtype, ids.dtype) == ((8, 3, 6, 5), torch.float32, torch.int64, torch.int64)
        assert x.is_contiguous()
        assert 0 <= float(x.min()) <= float(x.max()) <= 1


def test_crops_and_flips_are_uniform():
    plan = draw_plan(20_000, 2, seed=0, epoch=0, device=torch.device("cpu"))
    for offsets in (plan.top, plan.left):
        counts = offsets.bincount()
        assert len(counts) == 5
        assert (counts - 4_000).abs().max() < 5 * (20_000 * 0.2 * 0.8) ** 0.5
    joint = (5 * plan.top + plan.left).bincount(minlength=25)
    assert (joint - 800).abs().max() < 5 * 800**0.5
    assert abs(int(plan.flip.sum()) - 10_000) < 5 * 5_000**0.5


def test_an_epoch_visits_every_image_at_most_once_and_drops_what_is_left_over():
    batches = loader(count=50, batch_size=8)
    assert len(batches) == 6
    seen = torch.cat([batches.batch(k).ids for k in range(6)]).tolist()
    assert len(set(seen)) == 48
    whole = loader(count=48, batch_size=8)
    assert sorted(torch.cat([whole.batch(k).ids for k in range(6)]).tolist()) == list(range(48))


def test_other_images_are_left_over_in_other_epochs():
    batches = loader(count=50, batch_size=8)
    left_over = set()
    for epoch in range(20):
        left_over |= set(range(50)) - set(torch.cat([batches.batch(6 * epoch + k).ids for k in range(6)]).tolist())
    assert len(left_over) > 10


def test_epochs_and_seeds_differ():
    batches = loader()
    first = torch.cat([batches.batch(k).ids for k in range(6)])
    second = torch.cat([batches.batch(6 + k).ids for k in range(6)])
    other = torch.cat([loader(seed=2).batch(k).ids for k in range(6)])
    assert not torch.equal(first, second)
    assert not torch.equal(first, other)


def test_seeds_and_epochs_do_not_run_into_each_other():
    """Seed 1 in epoch 0 must not be seed 0 in epoch 1."""
    plans = [draw_plan(64, 0, seed=s, epoch=e, device=torch.device("cpu")).rows for s in range(6) for e in range(6)]
    assert len({tuple(rows.tolist()) for rows in plans}) == 36


def test_random_access_equals_sequential():
    batches = loader()
    sequential = [batches.batch(k) for k in range(18)]
    for k in (17, 0, 6, 5, 11, 12, 12, 1):
        for source in (batches, loader()):  # a resumed run has asked for nothing before
            assert all(torch.equal(a, b) for a, b in zip(source.batch(k), sequential[k], strict=True))


def test_global_generator_is_neither_asked_nor_moved():
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    first = loader().batch(7)
    assert torch.equal(torch.rand(3), expected)
    torch.manual_seed(9)
    assert torch.equal(loader().batch(7).x, first.x)


def test_the_order_does_not_depend_on_the_augmentation():
    for pad, flip in ((0, False), (0, True), (3, False)):
        assert torch.equal(loader(pad=pad, flip=flip).batch(9).ids, loader().batch(9).ids)


def test_changing_a_batch_does_not_change_the_images():
    x, y = images(16)
    batches = Loader(x, y, batch_size=16, seed=0, pad=0, flip=False)
    batches.batch(0).x.zero_()
    batches.batch(0).y.zero_()
    assert float(batches.batch(0).x.max()) > 0
    assert torch.equal(x, images(16)[0])
    assert torch.equal(y, images(16)[1])


def test_one_batch_may_take_all():
    batches = loader(count=8)
    assert len(batches) == 1
    assert sorted(batches.batch(5).ids.tolist()) == list(range(8))


def test_a_batch_larger_than_the_set():
    with pytest.raises(UsageError, match=r"^--batch-size 8 is more than the 7 training images: choose a smaller one$"):
        loader(count=7)


def test_to_float_is_correctly_rounded_division():
    x = torch.arange(256, dtype=torch.uint8)
    expected = (np.arange(256) / 255).astype(np.float32)
    assert np.array_equal(to_float(x).numpy(), expected)
    assert to_float(x).dtype == torch.float32
    assert float(to_float(x)[255]) == 1.0
    floats = x.float()
    to_float(floats)
    assert float(floats[255]) == 255
