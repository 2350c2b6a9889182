"""Blocks of training time: what speed they show, and what makes a run noisy."""

import random

import pytest

from fatbench.metering.throughput import NOISY_SPREAD, Mark, throughput
from fatbench.record.parts import Throughput


def marks(rates: list[float], seconds: float = 0.5) -> list[Mark]:
    """Marks every so many seconds of a run whose steps per second change from one to the next."""
    found = [Mark(0, 0.0)]
    for rate in rates:
        found.append(Mark(found[-1].steps + round(rate * seconds), found[-1].seconds + seconds))
    return found


def measured(rates: list[float], **how: bool) -> Throughput:
    found = throughput(marks(rates), images_per_step=10, **how)
    assert found is not None
    return found


def test_an_even_run_is_quiet() -> None:
    found = measured([1000.0] * 20)
    assert found == Throughput(images_per_second=10_000.0, blocks=19, spread=0.0, noisy=False)


def test_the_first_block_counts_only_where_there_is_no_other() -> None:
    assert measured([100.0, 1000.0, 1000.0, 1000.0]) == measured([1000.0] * 4)
    alone = measured([100.0])
    assert (alone.images_per_second, alone.blocks, alone.noisy) == (1000.0, 1, None)


@pytest.mark.parametrize("hiccups", [1, 9])
def test_hiccups_in_a_hundred_blocks_are_no_noise(hiccups: int) -> None:
    rates = [1000.0] * (101 - hiccups) + [10.0] * hiccups
    random.Random(0).shuffle(rates)
    found = measured([1000.0, *rates])
    assert (found.blocks, found.noisy) == (101, False)
    assert found.images_per_second == 10_000.0


@pytest.mark.parametrize("slow_blocks", [12, 50, 88])
@pytest.mark.parametrize("left", [0.5, 0.88])
def test_a_neighbour_for_part_of_the_run_is_noise(slow_blocks: int, left: float) -> None:
    found = measured([1000.0] * (101 - slow_blocks) + [1000.0 * left] * slow_blocks)
    assert found.noisy
    assert found.spread is not None
    assert found.spread > NOISY_SPREAD


def test_a_tremor_of_a_few_percent_is_no_noise() -> None:
    shaken = random.Random(0)
    assert measured([1000 * shaken.uniform(0.96, 1.04) for _ in range(50)]).noisy is False


@pytest.mark.parametrize(("blocks", "noisy"), [(1, None), (2, None), (3, False)])
def test_few_blocks_are_unknown_rather_than_quiet(blocks: int, noisy: bool | None) -> None:
    found = measured([1000.0] * (blocks + 1))
    assert (found.blocks, found.noisy, found.spread is None) == (blocks, noisy, noisy is None)


def test_one_slow_block_of_three_is_noise() -> None:
    assert measured([1000.0, 1000.0, 1000.0, 600.0]).noisy


def test_a_throttled_run_is_noisy_however_even() -> None:
    assert measured([1000.0] * 20, throttled=True).noisy
    assert measured([1000.0], throttled=True).noisy


def test_short_marks_are_merged_and_the_rest_belongs_to_the_last_block() -> None:
    ticks = [Mark(step, step * 0.0625) for step in range(17)]  # four blocks of a quarter second
    even = throughput(ticks, images_per_step=10)
    assert even == Throughput(images_per_second=160.0, blocks=3, spread=0.0, noisy=False)
    found = throughput([*ticks, Mark(17, 1.125)], images_per_step=10)  # a last step that took twice as long
    assert found is not None
    assert (found.blocks, found.images_per_second) == (3, 160.0)
    assert found.spread == pytest.approx(0.8 * (160 - 50 / 0.375) / 160)  # of three, the lowest decile is 0.2 up


def test_a_run_shorter_than_a_block_still_has_a_speed() -> None:
    found = throughput([Mark(0, 0.0), Mark(4, 0.0625), Mark(8, 0.125)], images_per_step=10)
    assert found == Throughput(images_per_second=640.0, blocks=1, spread=None, noisy=None)


@pytest.mark.parametrize("nothing", [[], [Mark(0, 0.0)], [Mark(0, 0.0), Mark(0, 0.0)]])
def test_no_training_has_no_speed(nothing: list[Mark]) -> None:
    assert throughput(nothing, images_per_step=10) is None
