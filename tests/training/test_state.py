"""What a training's state holds, and what is no state of a training."""

import random

import numpy as np
import pytest
import torch
from torch import Tensor

from fatbench.errors import UsageError
from fatbench.rng import rng_state, set_rng_state
from fatbench.runner.setup import set_up
from fatbench.training.loop import Training
from fatbench.training.state import restore, steps_of, training_state
from tests.runner.test_runner import make_spec

CPU = torch.device("cpu")


def training(method: str = "free-at", batches: int = 0, **flags: object) -> Training:
    made = set_up(make_spec(method, limit_train=256, epochs=9, **flags), data_dir=None, download=False).training()
    for _ in range(batches):
        made.step_through_batch()
    return made


def drawn() -> tuple[object, ...]:
    """A number of each kind from every generator; those that come in pairs leave one for the next time."""
    return torch.randn(3).tolist(), np.random.rand(), np.random.normal(), random.random(), random.gauss(0, 1)


@pytest.mark.parametrize("before", [0, 1, 2])
def test_every_generator_goes_on_where_it_was(before: int) -> None:
    for _ in range(before):
        drawn()
    states = rng_state(CPU)
    expected = [drawn(), drawn()]
    set_rng_state(states, CPU)
    assert [drawn(), drawn()] == expected


def test_a_state_is_a_copy_that_training_on_leaves_alone() -> None:
    mine = training(batches=2)
    state = training_state(mine)
    before = {name: tensor.clone() for name, tensor in state.items()}
    mine.step_through_batch()
    assert all(torch.equal(state[name], tensor) for name, tensor in before.items())
    assert steps_of(state) == 2 * 8
    assert not torch.equal(training_state(mine)["buffer delta"], state["buffer delta"])


@pytest.mark.parametrize("engine", ["reference", "fast"])
def test_a_state_put_into_another_training_is_found_there_again(engine: str) -> None:
    state = training_state(training(batches=2, engine=engine))
    other = training(batches=1, seed=5, engine=engine)
    restore(other, state)
    again = training_state(other)
    assert again.keys() == state.keys()
    assert all(torch.equal(again[name], tensor) for name, tensor in state.items())


def without_counters(state: dict[str, Tensor]) -> None:
    del state["counters"]


def with_another_shape(state: dict[str, Tensor]) -> None:
    name = next(name for name in state if name.startswith("model "))
    state[name] = state[name][:1]


def with_another_weight(state: dict[str, Tensor]) -> None:
    state["model net.99.weight"] = torch.zeros(3)


def with_a_slot_of_nothing(state: dict[str, Tensor]) -> None:
    state["optimizer 999 momentum_buffer"] = torch.zeros(3)


def with_generators_cut_short(state: dict[str, Tensor]) -> None:
    state["generator torch"] = state["generator torch"][:100]


def with_numpy_outside_its_words(state: dict[str, Tensor]) -> None:
    state["generator numpy position"] = torch.tensor([-1, 0])


@pytest.mark.parametrize(
    "spoil",
    [
        without_counters,
        with_another_shape,
        with_another_weight,
        with_a_slot_of_nothing,
        with_generators_cut_short,
        with_numpy_outside_its_words,
    ],
)
def test_what_is_no_state_of_this_training_is_one_line_and_changes_nothing(spoil: object) -> None:
    state = training_state(training(batches=1))
    spoil(state)  # type: ignore[operator]
    other = training(seed=5)
    before = training_state(other)
    with pytest.raises(UsageError, match=r"the checkpoint is of another training \("):
        restore(other, state)
    after = training_state(other)
    assert after.keys() == before.keys()
    assert all(torch.equal(after[name], before[name]) for name in after)
