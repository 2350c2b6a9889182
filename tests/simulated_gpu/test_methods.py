"""On the simulated GPU, methods are captured, train exactly as without a graph, and never let the host wait."""

import itertools
from typing import Any, get_args

import pytest

from fatbench import methods
from fatbench.config.spec import EnginePart
from tests.methods import KINDS
from tests.training.engine import CASES

from .training import assert_captured_is_eager, gpu_with_a_padded_stem, trained, trial

USUAL = [(name, precision) for name, precision in zip((*KINDS, "fgsm-pco"), itertools.cycle(["bf16", "fp32"]))]
CAPTURABLE = [name for name in methods.names() if not methods.describe(name).not_capturable]
NORMS = [(name, norm) for name, norm in CASES if name in CAPTURABLE]
NEEDED = ("graph", "fused-sgd")  # a rate that moves inside of a graph is a tensor, which only this optimiser takes
ADD_ONS: dict[str, dict[str, Any]] = {
    "ema": {"ema": 0.9},
    "swa": {"swa": 0.3},
    "labels": {"label_smoothing": 0.7},
    "seconds": {"epochs": None, "time_budget": "60s"},
    "crops": {"pad": 1, "flip": True},
    **{f"without {part}": {"without": [part]} for part in get_args(EnginePart) if part not in NEEDED},
}


@pytest.mark.parametrize(("method", "precision"), USUAL)
def test_captured_batches_train_exactly_as_eager_ones(method: str, precision: str) -> None:
    with gpu_with_a_padded_stem() as gpu:
        assert_captured_is_eager(gpu, method, precision=precision)


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize(("method", "norm"), NORMS)
def test_all_methods_do_in_every_norm_and_precision(method: str, norm: str, precision: str) -> None:
    with gpu_with_a_padded_stem() as gpu:
        assert_captured_is_eager(gpu, method, norm=norm, precision=precision)


@pytest.mark.slow
@pytest.mark.parametrize("what", ADD_ONS)
@pytest.mark.parametrize("method", ["bs-trades", "free-at"])
def test_they_do_with_whatever_is_added(method: str, what: str) -> None:
    flags = {name: value for name, value in ADD_ONS[what].items() if value is not None}
    with gpu_with_a_padded_stem() as gpu:
        assert_captured_is_eager(gpu, method, precision="bf16", **flags)


@pytest.mark.slow
def test_perturbed_weights_are_trained_without_a_graph_and_without_a_wait() -> None:
    with gpu_with_a_padded_stem() as gpu:
        one = trial("bs-trades", awp=0.01, precision="bf16")
        assert one.info is not None
        assert one.info.notes["graph"].startswith("--awp takes each loss twice")
        one.training.step_through_batch()
        gpu.waits.clear()
        one.training.step_through_batch()
        assert not gpu.waits


@pytest.mark.slow
@pytest.mark.parametrize("model", ["preact-resnet18", "wrn-28-10"])
def test_they_do_with_larger_networks(model: str) -> None:
    with gpu_with_a_padded_stem() as gpu:
        assert_captured_is_eager(gpu, "fgsm-rs", model=model, precision="bf16", batch_size=4, limit_train=16)


@pytest.mark.slow
@pytest.mark.parametrize("method", [name for name in methods.names() if name not in CAPTURABLE])
def test_what_is_declared_not_capturable_is_so_for_a_reason(method: str) -> None:
    with gpu_with_a_padded_stem() as gpu:
        one = trial(method)
        gpu.waits.clear()
        one.training.step_through_batch()
        assert gpu.waits
        assert one.info is not None
        assert one.info.notes["graph"] == methods.describe(method).not_capturable


@pytest.mark.parametrize("engine", ["reference", "fast"])
def test_a_seed_fixes_what_the_device_draws(engine: str) -> None:
    with gpu_with_a_padded_stem():
        first, second = (trained(trial("fgsm-rs", engine=engine), 1) for _ in range(2))
        other = trained(trial("fgsm-rs", engine=engine, limit_train=64), 1)
    assert first["loss 0"] == second["loss 0"] != other["loss 0"]
