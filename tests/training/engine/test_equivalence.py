"""Ways to compute a network are tried before they are trusted: wrong ones are found out, right ones are not accused."""

import copy
import random
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

from fatbench import models
from fatbench.models.classifier import Classifier
from fatbench.models.equivalence import mismatch
from fatbench.training.engine.fast_model import FastModel

from . import MEAN, STD, classifier
from .nets import SHAPE, conv, made, shaken, stack

Answer = Callable[[Tensor], Tensor]


class _Noise(torch.autograd.Function):
    """Adds noise to what goes forward and to what comes back, as large as the given parts of it."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, forward: float, backward: float) -> Tensor:
        ctx.size = backward
        return _noisy(x, forward)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        return _noisy(gradients[0], ctx.size), None, None


def _noisy(x: Tensor, size: float) -> Tensor:
    noise = torch.randn(x.shape, generator=torch.Generator().manual_seed(0), dtype=x.dtype)
    return x + size * noise * x.norm() / noise.norm()


def network() -> Classifier:
    torch.manual_seed(0)
    return classifier(shaken(stack(conv(), nn.BatchNorm2d(4), nn.ReLU(), conv(4))))


def images(count: int = 8) -> Tensor:
    return torch.rand(count, *SHAPE, generator=torch.Generator().manual_seed(1))


def off_by(logits: float = 0.0, to_image: float = 0.0, to_all: float = 0.0) -> Callable[[Classifier], Answer]:
    """Return what makes of a classifier one whose logits or gradients are off by such parts."""

    def build(trial: Classifier) -> Answer:
        return lambda x: _Noise.apply(trial(_Noise.apply(x, 0.0, to_image)), logits, to_all)

    return build


both_modes = pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])


@both_modes
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("off", [{}, {"logits": 1e-5}, {"to_image": 0.01}, {"to_all": 0.01}], ids=str)
def test_rounding_is_no_objection_though_it_turns_a_relu(off: dict[str, float], precision: str, training: bool) -> None:
    """A ResNet-18's gradients on eight images are up to 0.8% off in float32, by another memory format alone."""
    model = network()
    model.precision = precision  # type: ignore[assignment]
    assert mismatch(model, off_by(**off), images(), training=training) == ""


WRONG: dict[str, tuple[Callable[[Classifier], Answer], str]] = {
    "logits": (off_by(logits=0.3), "its logits differ"),
    "gradients of images": (off_by(to_image=0.5), "its gradients differ"),
    "another input": (lambda trial: lambda x: trial(x.flip(3)), "its logits differ"),
    "no gradient": (lambda trial: lambda x: trial(x.detach()) + 0 * x.sum(), "its gradients differ"),
    "not a number": (lambda trial: lambda x: trial(x) * float("nan"), "its logits differ"),
    "an exception": (lambda trial: lambda x: trial(x)[:, 7], "IndexError: index 7 is out of bounds"),
}


@both_modes
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_is_objected_to(name: str, precision: str, training: bool) -> None:
    build, why = WRONG[name]
    model = network()
    model.precision = precision  # type: ignore[assignment]
    assert mismatch(model, build, images(), training=training).startswith(why)


def test_gradients_of_weights_count_in_train_mode_alone() -> None:
    """In eval mode the way is for attacks."""

    def build(trial: Classifier) -> Answer:
        still = copy.deepcopy(trial).requires_grad_(False)
        return lambda x: still(x) + 0 * trial(x.detach())

    assert mismatch(network(), build, images(), training=True) == "its gradients differ"
    assert mismatch(network(), build, images(), training=False) == ""


def test_dropout_is_no_objection_but_what_fails_with_it_is_one() -> None:
    model = classifier(stack(conv(), nn.BatchNorm2d(4), nn.Dropout(0.5)))

    def fails(trial: Classifier) -> Answer:
        return lambda x: trial(x)[:, 7]

    assert mismatch(model, lambda trial: trial, images(), training=True) == ""
    assert mismatch(model, fails, images(), training=True).startswith("IndexError")


@both_modes
def test_a_trial_leaves_no_trace(training: bool) -> None:
    model = network().train(not training)
    state = copy.deepcopy(model.state_dict())
    streams = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].sum()
    mismatch(model, off_by(logits=0.3), images(), training=training)
    assert_close(dict(model.state_dict()), dict(state), rtol=0, atol=0)
    assert all(parameter.grad is None for parameter in model.parameters())
    assert model.training != training
    assert torch.equal(torch.get_rng_state(), streams[0])
    assert (random.getstate(), np.random.get_state()[1].sum()) == streams[1:]


# The fast model


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 20, 20)])
def test_small_cnn_goes_every_way_whatever_its_weights(shape: tuple[int, int, int], seed: int, precision: str) -> None:
    torch.manual_seed(seed)
    assert_goes_every_way("small-cnn", shape, precision)


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("name", ["resnet18", "preact-resnet18"])
def test_residual_networks_go_every_way_whatever_their_weights(name: str, seed: int, precision: str) -> None:
    torch.manual_seed(seed)
    assert_goes_every_way(name, (3, 16, 16), precision)


def assert_goes_every_way(name: str, shape: tuple[int, int, int], precision: str) -> None:
    channels = shape[0]
    model = FastModel(
        models.build(name, num_classes=10, shape=shape, mean=MEAN[:channels], std=STD[:channels], precision=precision)
    )
    model(torch.rand(8, *shape))
    ways = {"channels-last", "fold", *(["shadow"] if precision == "bf16" else [])}
    assert (model.notes, {way for way, in_force in model.in_force.items() if in_force}) == ({}, ways)


class _Locked(nn.Module):
    """Cannot be copied."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.lock = stack(conv(), nn.BatchNorm2d(4)), threading.Lock()

    def forward(self, x: Tensor) -> Tensor:
        with self.lock:
            return self.body(x)


def test_a_network_that_cannot_be_copied_is_trained_as_it_is() -> None:
    net = _Locked()
    model = FastModel(classifier(net))
    model(images()).sum().backward()
    assert all(parameter.grad is not None for parameter in net.parameters())
    assert set(model.notes) == {"channels-last", "shadow", "fold"}
    assert not any(model.in_force.values())


def test_what_cannot_be_in_force_is_not_promised_to_be_compiled() -> None:
    net = made(lambda net, x: net.bn(net.conv(x)))
    net.register_forward_hook(lambda *given: given[-1])
    model = FastModel(classifier(net), compiled=True)
    model(images())
    assert not model.in_force["compile"]
    assert model.notes["compile"] == model.notes["fold"]
