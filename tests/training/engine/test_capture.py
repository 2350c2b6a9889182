"""What surrounds a capture: each replay's progress and rate, and that preparing a training leaves no trace.

That captured batches train as eager ones is tested on the simulated GPU (tests/simulated_gpu) and on a real one
(test_gpu.py).
"""

import pytest
import torch
from torch.testing import assert_close

from fatbench.training.engine.capture import CapturedBatch, undone

from . import Trial, make_spec, make_trial


def test_every_replayed_step_has_its_own_progress_and_rate() -> None:
    spec = make_spec("free-at", engine="fast", limit_train=416, epochs=1, schedule="cyclic")  # 13 steps

    def seen(trial: Trial) -> list[tuple[float, float]]:
        found = []
        (group,) = trial.training.optimizer.param_groups
        note = lambda *_: found.append((float(trial.training.ctx.progress), float(group["lr"])))  # noqa: E731
        trial.training.optimizer.register_step_pre_hook(note)
        trial.finish()
        return found

    replayed = make_trial(spec)
    training = replayed.training
    training.captured = CapturedBatch(
        training.work, training.loader.plan(0), 3, changed=training.state, record=lambda work, _: work
    )
    expected = [(step / 13, 0.125 * (1 - abs(2 * step / 13 - 1))) for step in range(13)]
    assert_close(torch.tensor(seen(make_trial(spec))), torch.tensor(expected))
    assert_close(torch.tensor(seen(replayed)), torch.tensor(expected))


# No trace


@pytest.mark.parametrize("name", ["bs-trades", "free-at"])
def test_a_prepared_training_begins_as_one_that_is_not(name: str) -> None:
    spec = make_spec(name, engine="fast")
    cold, warm = make_trial(spec), make_trial(spec)
    before = torch.get_rng_state()
    warm.prepare()
    assert torch.equal(torch.get_rng_state(), before)
    assert all(parameter.grad is None for parameter in warm.context.model.parameters())
    assert (warm.training.steps, warm.training.batches, float(warm.training.loss_sum)) == (0, 0, 0.0)
    assert warm.run(2) == cold.run(2)
    assert_close(warm.state, cold.state, rtol=0, atol=0)


@pytest.mark.parametrize("begun", [False, True], ids=["new", "begun"])
def test_what_is_undone_is_as_before(begun: bool) -> None:
    trial = make_trial(make_spec("free-at", engine="fast", precision="bf16"))
    training = trial.training
    training.model(training.loader.batch(0).x)  # weights find their memory format
    if begun:
        trial.run(1)
    places = [tensor.data_ptr() for tensor in training.state().values()]
    before = [tensor.clone() for tensor in training.state().values()]
    with undone(training.state):
        training.work(training.loader.plan(3), torch.full((3, 2), 0.5))
        training.ctx.buffer("late", torch.ones(2)).add_(1)
        known = [tensor for tensor in training.state().values() if tensor.data_ptr() in places]
        moved = [not torch.equal(now, was) for now, was in zip(known, before, strict=True)]
        assert sum(moved) > len(moved) / 2
    after = list(training.state().values())
    known = [tensor for tensor in after if tensor.data_ptr() in places]
    assert [tensor.data_ptr() for tensor in known] == places
    assert_close(known, before, rtol=0, atol=0)
    new = [tensor for tensor in after if tensor.data_ptr() not in places]
    assert new  # the late buffer, and momentum where nothing had begun
    assert all(not tensor.any() for tensor in new)


def test_the_allocators_functions_that_a_failed_capture_needs_are_there() -> None:
    """They are torch's own, private ones: `_close_pool` does without where they are gone, silently."""
    assert hasattr(torch._C, "_cuda_endAllocateToPool")
    assert hasattr(torch._C, "_cuda_releasePool")
