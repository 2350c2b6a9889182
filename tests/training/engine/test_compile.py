"""Compiled, the fast engine trains as it does uncompiled, and everything is compiled before the clock starts."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch
from torch.testing import assert_close

from fatbench.evaluation.eval_mode import eval_mode

from . import Trial, make_spec, make_trial

pytestmark = pytest.mark.slow
METHODS = ["bs-trades", "free-at"]  # attacks in eval and in train mode, replays


@contextmanager
def nothing_compiled() -> Iterator[None]:
    before = torch._dynamo.utils.counters["stats"]["unique_graphs"]
    with torch._dynamo.config.patch(error_on_recompile=True):
        yield
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == before


def evaluated(trial: Trial) -> None:
    """Look at the model as a probe does, between two epochs."""
    with eval_mode(trial.context.model), torch.no_grad():
        trial.context.model(trial.context.loader.batch(0).x)


@pytest.mark.parametrize("without", [(), ("fold",)], ids=["whole", "no fold"])
def test_one_method_after_another_trains_as_uncompiled_and_compiles_before_it_begins(without: tuple[str, ...]) -> None:
    """In float64, where equal means equal."""
    for method in METHODS:
        flags = {"engine": "fast", "without": list(without)}
        plain = make_trial(make_spec(method, **flags), double=True).prepare()
        trial = make_trial(make_spec(method, compile=True, **flags), double=True).prepare()
        assert trial.info is not None
        assert trial.info.in_force["compile"]
        assert trial.info.compile_seconds > 0
        with nothing_compiled():
            losses = trial.run(2)
            evaluated(trial)
            losses += trial.run(1)
        assert losses == pytest.approx(plain.run(2) + plain.run(1), rel=1e-6)
        assert_close(trial.state, plain.state, rtol=0, atol=1e-9)


@pytest.mark.parametrize("method", METHODS)
def test_compiled_in_bfloat16_it_is_as_near_to_the_truth(method: str) -> None:
    flags = {"batch_size": 128, "lr": 0.0625}
    truth = make_trial(make_spec(method, engine="reference", **flags))
    plain = make_trial(make_spec(method, engine="fast", precision="bf16", **flags)).prepare()
    trial = make_trial(make_spec(method, engine="fast", precision="bf16", compile=True, **flags)).prepare()
    exact, rounded = sum(truth.run(2)), sum(plain.run(2))
    with nothing_compiled():
        mine = sum(trial.run(2))
    assert mine == pytest.approx(exact, rel=1e-2)
    assert mine == pytest.approx(rounded, rel=1e-2)


def test_uncompiled_nothing_is_compiled() -> None:
    trial = make_trial(make_spec("fgsm", engine="fast"))
    with nothing_compiled():
        trial.prepare().run(1)
    assert trial.info is not None
    assert trial.info.compile_seconds == 0.0
