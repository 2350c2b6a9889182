"""What outlives a batch: buffers, the room that memory of single images takes, and when a stretch of passes ends."""

import pytest
import torch

from fatbench.interface import Context
from fatbench.threat import Linf

ROWS, BATCH = 10, 4
IMAGES = torch.rand(BATCH, 3, 2, 2)
NUMBERS = torch.arange(BATCH)
BYTES = ROWS * 12 * 4  # what an image for each row takes in float32


def context(memory_limit=None, step=0):
    return Context(Linf(0.1), ROWS, torch.tensor(step), torch.tensor(0.0), memory_limit=memory_limit)


def test_a_buffer_is_zeros_first_and_the_same_tensor_ever_after():
    ctx = context()
    slots, rows = ctx.buffer("slots", like=IMAGES), ctx.buffer("rows", like=IMAGES, rows=ROWS)
    assert (slots.shape, rows.shape) == ((BATCH, 3, 2, 2), (ROWS, 3, 2, 2))
    assert (slots.dtype, rows.dtype) == (torch.float32, torch.float32)
    assert not slots.any()
    assert not rows.any()
    rows[NUMBERS] = IMAGES
    assert ctx.buffer("rows", like=IMAGES, rows=ROWS) is rows
    assert ctx.buffers == {"slots": slots, "rows": rows}


@pytest.mark.parametrize(
    ("room", "dtypes"),
    [
        (None, [torch.float32, torch.float32]),
        (2 * BYTES, [torch.float32, torch.float32]),
        (2 * BYTES - 1, [torch.float32, torch.bfloat16]),
        (BYTES, [torch.float32, torch.bfloat16]),
        (BYTES - 1, [torch.bfloat16, torch.bfloat16]),
        (0, [torch.bfloat16, torch.bfloat16]),
    ],
)
def test_rows_are_bfloat16_once_there_is_no_room_for_more_of_float32(room, dtypes):
    ctx = context(room)
    assert [ctx.buffer(name, like=IMAGES, rows=ROWS).dtype for name in ("one", "other")] == dtypes
    assert [ctx.buffer(name, like=IMAGES, rows=ROWS).dtype for name in ("one", "other")] == dtypes


def test_rows_that_are_bfloat16_take_half_the_room():
    ctx = context(memory_limit=3 * BYTES // 2)
    ctx.buffer("half", like=IMAGES.bfloat16(), rows=ROWS)
    assert ctx.buffer("whole", like=IMAGES, rows=ROWS).dtype == torch.float32
    assert ctx.buffer("no more", like=IMAGES, rows=ROWS).dtype == torch.bfloat16


def test_what_is_no_memory_of_single_images_is_never_shortened_and_takes_no_room():
    ctx = context(memory_limit=BYTES)
    assert ctx.buffer("slots", like=IMAGES).dtype == torch.float32
    assert ctx.buffer("number", like=torch.tensor(1.0)).dtype == torch.float32
    assert ctx.buffer("rows", like=IMAGES, rows=ROWS).dtype == torch.float32
    assert ctx.buffer("counts", like=NUMBERS, rows=ROWS).dtype == torch.int64


@pytest.mark.parametrize(
    ("epochs", "periods"),
    [
        (0.0, [1, 2, 3, 4, 5, 6]),
        (0.5, [1, 2, 3, 4, 5, 6]),
        (1.0, [1, 1, 2, 2, 3, 3]),  # ten rows in batches of four: two batches a pass
        (1.5, [1, 1, 1, 2, 2, 2]),
        (2.0, [1, 1, 1, 1, 2, 2]),
        (40.0, [1, 1, 1, 1, 1, 1]),
    ],
)
def test_stretches_of_passes_are_counted_from_one(epochs, periods):
    found = [context(step=step).period(epochs, IMAGES) for step in range(6)]
    assert [int(one) for one in found] == periods
    assert {(one.shape, one.dtype) for one in found} == {((), torch.int64)}
