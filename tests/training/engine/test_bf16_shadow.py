"""The network with bfloat16 shadows: the weights' own gradients, and no weight out of date."""

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call
from torch.testing import assert_close
from torch.utils._python_dispatch import TorchDispatchMode

from fatbench import methods
from fatbench.ops import input_gradient
from fatbench.training.engine.fast_model import FastModel
from fatbench.training.passes import PassCounter, count_passes
from tests.methods import make_context

from . import classifier, colour_batches, colour_net, leaves
from .nets import made, shaken

Loss = Callable[[nn.Module, Tensor, Tensor], Tensor]
every_precision = pytest.mark.parametrize("precision", ["fp32", "bf16"])


def cross_entropy(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    return F.cross_entropy(model(x), y)


def gradient_penalty(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    """Differentiated twice: through the input gradient to the weights."""
    leaf = x.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(cross_entropy(model, leaf, y), leaf, create_graph=True)
    return gradient.square().sum()


LOSSES = {"cross-entropy": cross_entropy, "gradient penalty": gradient_penalty}


def gradients(model: nn.Module, loss: Loss, dtype: torch.dtype = torch.float32) -> Tensor:
    """Those of all weights, in a row."""
    batch, *_ = colour_batches(size=10, dtype=dtype)
    loss(model, batch.x, batch.y).backward()
    found = [parameter.grad for parameter in model.parameters()]
    assert all(gradient is not None and gradient.dtype == dtype for gradient in found)
    return torch.cat([gradient.flatten() for gradient in found]).double()  # type: ignore[union-attr]


def tied_net() -> nn.Module:
    """Two convolutions share a weight, and one convolution has two names."""
    torch.manual_seed(0)
    first, twin = nn.Conv2d(3, 3, 3, padding=1), nn.Conv2d(3, 3, 3, padding=1)
    twin.weight = first.weight
    layers = [first, nn.BatchNorm2d(3), nn.Softplus(), twin, nn.BatchNorm2d(3), nn.Tanh(), first]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(108, 5))


NETS = {"plain": colour_net, "tied": tied_net}


def distance(mine: Tensor, truth: Tensor) -> float:
    return float((mine - truth).norm() / truth.norm())


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("net", NETS)
def test_gradients_of_float32_weights_are_as_near_to_the_truth_as_autocasts(
    net: str, loss: str, training: bool
) -> None:
    def of(model: nn.Module, dtype: torch.dtype = torch.float32) -> Tensor:
        return gradients(model.train(training), LOSSES[loss], dtype)

    truth = of(classifier(NETS[net]()).double(), torch.float64)
    assert_close(of(FastModel(classifier(NETS[net]()).double()), torch.float64), truth, rtol=1e-10, atol=1e-12)
    autocast = distance(of(classifier(NETS[net](), "bf16")), truth)
    assert 1e-4 < autocast < 0.05
    for without in ((), ("shadow",)):
        assert distance(of(FastModel(classifier(NETS[net](), "bf16"), without)), truth) < 1.5 * autocast


@every_precision
@pytest.mark.parametrize("net", NETS)
def test_the_weights_stay_parameters_in_their_places(net: str, precision: str) -> None:
    model = FastModel(classifier(NETS[net](), precision))
    before = [(name, id(parameter)) for name, parameter in model.named_parameters(remove_duplicate=False)]
    gradients(model, cross_entropy)
    with torch.no_grad():
        model.eval()(colour_batches(dtype=torch.float32)[0].x)
    assert [(name, id(parameter)) for name, parameter in model.named_parameters(remove_duplicate=False)] == before
    assert {value.dtype for value in model.state_dict().values()} == {torch.float32, torch.int64}


# Changes between two forwards


@contextmanager
def perturbed_in_place(model: nn.Module, offsets: dict[str, Tensor]) -> Iterator[Callable[[Tensor], Tensor]]:
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.add_(offsets[name])
    yield model
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.sub_(offsets[name])


@contextmanager
def perturbed_by_surrogates(model: nn.Module, offsets: dict[str, Tensor]) -> Iterator[Callable[[Tensor], Tensor]]:
    surrogates = {name: parameter + offsets[name] for name, parameter in model.named_parameters()}
    yield lambda x: functional_call(model, surrogates, (x,))


def answers(model: nn.Module, how: Callable[..., object], *, training: bool, attack: bool) -> list[Tensor]:
    """Logits before, while and after the weights are perturbed, and while they are, an input or weight gradient."""
    model.train(training)
    x, y, _ = colour_batches(size=10, dtype=torch.float32)[0]
    torch.manual_seed(3)
    offsets = {name: torch.randn(one.shape) * one.detach().abs().mean() for name, one in model.named_parameters()}
    found = []
    with torch.no_grad():
        found.append(model(x))
    with how(model, offsets) as perturbed:  # type: ignore[attr-defined]
        with torch.no_grad():
            found.append(perturbed(x))
        if attack:
            found.append(input_gradient(lambda z: F.cross_entropy(perturbed(z), y, reduction="sum"), x))
        else:
            gradients = torch.autograd.grad(F.cross_entropy(perturbed(x), y), list(model.parameters()))
            found.append(torch.cat([gradient.flatten() for gradient in gradients]))
    with torch.no_grad():
        found.append(model(x))
    return found


@every_precision
@pytest.mark.parametrize("attack", [True, False], ids=["attack", "loss"])
@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
@pytest.mark.parametrize("how", [perturbed_in_place, perturbed_by_surrogates])
def test_perturbed_weights_are_seen(how: Callable[..., object], training: bool, attack: bool, precision: str) -> None:
    net = shaken(colour_net())
    expected = answers(classifier(copy.deepcopy(net), precision), how, training=training, attack=attack)
    found = answers(FastModel(classifier(net, precision)), how, training=training, attack=attack)
    assert distance(expected[1], expected[0]) > 0.3  # there is something to see
    for mine, theirs in zip(found, expected, strict=True):
        assert distance(mine.double(), theirs.double()) < (0.05 if precision == "bf16" else 1e-5)


# What stands in a parameter's place


@every_precision
@pytest.mark.parametrize("name", methods.names())
def test_passes_counted_through_the_fast_model_are_those_of_the_classifier(name: str, precision: str) -> None:
    def cost(model: nn.Module) -> object:
        return count_passes(model, methods.load(name), colour_batches(dtype=torch.float32)[0], make_context("linf"))

    assert cost(FastModel(classifier(colour_net(), precision))) == cost(classifier(colour_net(), precision))


@every_precision
def test_a_tap_on_a_weight_hears_losses_and_no_attack(precision: str) -> None:
    batch, *_ = colour_batches(dtype=torch.float32)
    counter = PassCounter(FastModel(classifier(colour_net(), precision)))
    input_gradient(lambda z: counter(z).sum(), batch.x)
    assert (counter.input_backward_samples, counter.weight_backward_samples) == (6, 0)
    cross_entropy(counter, batch.x, batch.y).backward()
    assert (counter.input_backward_samples, counter.weight_backward_samples) == (12, 6)


def test_in_an_attack_no_weight_of_the_body_is_in_the_graph() -> None:
    """A compiler would compute its gradient, wanted or not."""
    net = colour_net()
    model, (batch, *_) = FastModel(classifier(net, "bf16")), colour_batches(dtype=torch.float32)
    head = {parameter.data_ptr() for parameter in net[-1].parameters()}
    seen = []

    def objective(z: Tensor) -> Tensor:
        logits = model(z)
        seen.append(leaves(logits) - head - {z.data_ptr()})
        return logits.sum()

    input_gradient(objective, batch.x)
    assert seen == [set()]
    assert leaves(model(batch.x)) == {parameter.data_ptr() for parameter in model.parameters()}


def test_what_autocast_leaves_alone_has_no_shadow() -> None:
    """Batch norm and the last layer stay in float32, and so do logits."""

    class Types(TorchDispatchMode):
        seen: dict[str, list[torch.dtype]] = {}  # noqa: RUF012

        def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
            if str(func.overloadpacket) in ("aten.convolution", "aten.native_batch_norm", "aten.addmm"):
                self.seen[str(func.overloadpacket)] = [one.dtype for one in args[:3] if one is not None]
            return func(*args, **(kwargs or {}))

    model = FastModel(classifier(colour_net(), "bf16"))
    x = colour_batches(dtype=torch.float32)[0].x
    model(x)
    with Types() as mode:
        logits = model(x)
    assert mode.seen["aten.convolution"][:2] == [torch.bfloat16, torch.bfloat16]
    assert mode.seen["aten.native_batch_norm"] == [torch.bfloat16, torch.float32, torch.float32]
    assert set(mode.seen["aten.addmm"]) == {torch.float32}
    assert logits.dtype == torch.float32


def test_a_network_that_is_no_sequence_answers_in_float32_too() -> None:
    net = made(lambda net, x: net.bn(net.conv(x)))
    x = torch.rand(4, 3, 8, 8)
    assert FastModel(classifier(net, "bf16"))(x).dtype == torch.float32
