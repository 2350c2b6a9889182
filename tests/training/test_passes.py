"""Exact passes per update: the noise-free performance regression test, against two oracles."""

import importlib
from collections import Counter
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from fatbench import methods
from fatbench.training.passes import PassCounter, count_passes
from tests.methods import context_of_six, relu_net, six_images

IMAGES = 6


class _ConvolutionCounter(TorchDispatchMode):
    """Counts what the second of two convolutions really does, whatever fatbench believes."""

    def __init__(self) -> None:
        super().__init__()
        self.counts: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.ops.aten.convolution.default and args[0].shape[1] == 4:
            self.counts["forward"] += len(args[0])
        if func is torch.ops.aten.convolution.default and [len(one) for one in args[:2]] == [4, 4]:
            self.counts["weight_backward"] += args[0].shape[1]  # of a backward pass twice: images are the channels
        if func is torch.ops.aten.convolution_backward.default and args[1].shape[1] == 4:
            to_input, to_weight, _ = args[10]
            self.counts["input_backward"] += len(args[1]) * to_input
            self.counts["weight_backward"] += len(args[1]) * to_weight
        return func(*args, **(kwargs or {}))


def optimum(name: str) -> tuple[int, int, int]:
    """Forward, backward to inputs, backward to weights, per optimiser step; the method's naive twin states them."""
    return importlib.import_module(f"tests.references.{name.replace('-', '_')}").PASSES


@pytest.mark.parametrize("name", methods.names())
def test_passes_are_optimal_and_equal_the_convolutions_executed(name: str) -> None:
    model, method = relu_net(), methods.load(name)
    with _ConvolutionCounter() as executed:
        cost = count_passes(model, method, six_images(), context_of_six())
    expected = [samples * cost.updates * IMAGES for samples in optimum(name)]
    assert list(cost.passes.model_dump().values()) == expected
    assert [executed.counts[key] for key in ("forward", "input_backward", "weight_backward")] == expected


@pytest.mark.parametrize(("steps", "expected"), [(1, 9), (2, 11)])
def test_fast_trades_costs_nine_or_eleven(steps: int, expected: int) -> None:
    cost = count_passes(relu_net(), methods.load("fast-trades", steps=steps), six_images(), context_of_six())
    assert sum(cost.passes.model_dump().values()) == expected * IMAGES


def test_backward_smoothing_costs_ten_and_trades_twenty_seven() -> None:
    totals = [sum(optimum(name)) for name in ("bs-trades", "trades", "pgd-at", "fgsm-rs", "standard")]
    assert totals == [10, 27, 23, 5, 3]


def test_counting_leaves_no_trace_and_changes_no_logit() -> None:
    model = relu_net()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    count_passes(model, methods.load("fgsm-rs"), six_images(), context_of_six())
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())
    x = six_images().x
    model.eval()
    assert torch.equal(PassCounter(model)(x), model(x))


def test_cost_of_part_of_a_batch_is_its_share() -> None:
    cost = count_passes(relu_net(), methods.load("free-at", replays=8), six_images(), context_of_six())
    assert cost.updates == 8
    assert cost.times(20).forward == 20 * IMAGES
