"""Phases never overlap, and every second belongs to one."""

import torch

from fatbench.training.clock import Clock


def test_an_inner_phase_pauses_the_outer_one() -> None:
    now = [0.0]
    clock = Clock(torch.device("cpu"), now=lambda: now[0])
    with clock.phase("train"):
        now[0] += 2
        assert clock.seconds("train") == 2
        with clock.phase("probe"):
            now[0] += 5
        now[0] += 1
    now[0] += 7  # outside every phase
    assert (clock.seconds("train"), clock.seconds("probe")) == (3, 5)


def test_a_phase_left_by_an_exception_is_charged_and_closed() -> None:
    now = [0.0]
    clock = Clock(torch.device("cpu"), now=lambda: now[0])
    try:
        with clock.phase("train"):
            now[0] += 2
            raise KeyboardInterrupt
    except KeyboardInterrupt:
        now[0] += 9
    assert clock.seconds("train") == 2
