"""How many CPU threads a run gets when nobody says."""

from dataclasses import replace
from pathlib import Path

import torch

from fatbench.config.request import Request
from fatbench.config.resolve import resolve
from fatbench.runner.setup import RunContext, set_up
from fatbench.runner.threads import sensible_threads, threads


def context(batch_size: int = 128) -> RunContext:
    (spec,) = resolve(Request(["standard"], settings={"batch_size": batch_size}), device="cpu")
    return set_up(spec.replace(threads=None), Path(), download=False)


def test_a_tiny_model_gets_one_thread_and_a_larger_batch_what_torch_chooses() -> None:
    tiny = context()
    assert sensible_threads(tiny) == 1
    larger = replace(tiny, spec=tiny.spec.replace(batch_size=128 * 100))  # 0.06 GFLOP x 100
    assert sensible_threads(larger) is None


def test_looking_changes_nothing() -> None:
    tiny = context()
    before, stream = {name: value.clone() for name, value in tiny.model.state_dict().items()}, torch.get_rng_state()
    sensible_threads(tiny)
    assert tiny.model.training
    assert all(torch.equal(value, before[name]) for name, value in tiny.model.state_dict().items())
    assert torch.equal(stream, torch.get_rng_state())


def test_the_number_of_threads_is_as_before_afterwards() -> None:
    before = torch.get_num_threads()
    with threads(before + 1):
        assert torch.get_num_threads() == before + 1
    assert torch.get_num_threads() == before
