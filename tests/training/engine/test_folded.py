"""A frozen network computes what the network computes in eval mode, whatever has changed meanwhile."""

import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.autograd.graph import increment_version
from torch.testing import assert_close

from fatbench import models
from fatbench.ops import evaluating, input_gradient
from fatbench.training.engine.fast_model import FastModel
from fatbench.training.engine.folded import CannotFoldError, FoldedNet

from . import MEAN, STD, classifier, leaves
from .nets import FOLDABLE, SHAPE, UNFOLDABLE, shaken

every_net = pytest.mark.parametrize("name", FOLDABLE)


def images(count: int = 3, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.rand(count, *SHAPE, dtype=dtype, generator=torch.Generator().manual_seed(5))


def images_for(net: nn.Module) -> Tensor:
    return images(dtype=next(net.parameters()).dtype)


def freezable(name: str) -> nn.Module:
    torch.manual_seed(0)
    return shaken(FOLDABLE[name][0]()).double()


def logits_and_gradient(model: Callable[[Tensor], Tensor], x: Tensor) -> tuple[Tensor, Tensor]:
    leaf = x.clone().requires_grad_()
    logits = model(leaf)
    (gradient,) = torch.autograd.grad((logits * torch.linspace(-1, 1, logits.numel()).view_as(logits)).sum(), leaf)
    return logits.detach(), gradient


def assert_same_function(mine: Callable[[Tensor], Tensor], net: nn.Module, x: Tensor | None = None) -> None:
    """In float64, to 1e-10 of the largest value."""
    x = images() if x is None else x
    with evaluating(net):
        found, expected = logits_and_gradient(mine, x), logits_and_gradient(net, x)
    for value, truth in zip(found, expected, strict=True):
        assert truth.abs().max() > 1e-3  # there is something to compare
        assert_close(value, truth, rtol=0, atol=1e-10 * float(truth.abs().max()))


def batch_norms_run(function: Callable[[Tensor], Tensor]) -> int:
    with torch.profiler.profile() as profile, torch.no_grad():
        function(images())
    return sum(event.count for event in profile.key_averages() if event.key == "aten::batch_norm")


@pytest.mark.parametrize("name", ["small-cnn", "resnet18"])
def test_where_norms_follow_convolutions_none_is_left(name: str) -> None:
    net = models.build(name, num_classes=5, shape=SHAPE, mean=MEAN, std=STD).net.double().eval()
    assert batch_norms_run(net) > 0
    assert batch_norms_run(FoldedNet(net, torch.float64)) == 0


@pytest.mark.parametrize("name", models.names())
def test_every_registered_model_stays_the_same_function(name: str) -> None:
    net = shaken(models.build(name, num_classes=5, shape=SHAPE, mean=MEAN, std=STD).net).double()
    frozen = FoldedNet(net, torch.float64, stem_channels=8)
    assert frozen.folded > 0
    assert frozen.pads_stem
    assert_same_function(frozen, net, images(2))


@every_net
def test_every_kind_of_network_stays_the_same_function(name: str) -> None:
    net = freezable(name)
    frozen = FoldedNet(net, torch.float64)
    assert frozen.folded == FOLDABLE[name][1]
    assert_same_function(frozen, net)


@every_net
def test_a_padded_stem_changes_nothing(name: str) -> None:
    net = freezable(name)
    frozen = FoldedNet(net, torch.float64, stem_channels=4)
    assert frozen.pads_stem == (name not in ("depthwise", "a norm first"))
    assert_same_function(frozen, net)


@every_net
def test_the_memory_format_changes_nothing(name: str) -> None:
    net = freezable(name).to(memory_format=torch.channels_last)
    assert_same_function(FoldedNet(net, torch.float64), net, images().contiguous(memory_format=torch.channels_last))


# Staleness


def _step(net: nn.Module, **options: bool) -> None:
    opt = torch.optim.SGD(net.parameters(), lr=0.1, **options)
    if options.get("fused"):
        opt.register_step_post_hook(lambda *_: increment_version(list(net.parameters())))
    with evaluating(net):
        net(images_for(net)).square().mean().backward()
    opt.step()


@torch.no_grad()
def _train_mode_forward(net: nn.Module) -> None:
    net.train()
    net(3 * images_for(net))
    net.eval()


@torch.no_grad()
def _in_place(net: nn.Module, name: str) -> None:
    dict([*net.named_parameters(), *net.named_buffers()])[name].mul_(1.7).add_(0.1)


def _load(net: nn.Module) -> None:
    torch.manual_seed(9)
    net.load_state_dict(shaken(FOLDABLE["biased convolutions"][0](), seed=9).state_dict())


CHANGES: dict[str, Callable[[nn.Module], None]] = {
    "a step": _step,
    "a foreach step": lambda net: _step(net, foreach=True),
    "a fused step": lambda net: _step(net, fused=True),
    "a forward in train mode": _train_mode_forward,
    "a weight in place": lambda net: _in_place(net, "0.weight"),
    "a bias in place": lambda net: _in_place(net, "0.bias"),
    "a norm's weight in place": lambda net: _in_place(net, "1.weight"),
    "a norm's bias in place": lambda net: _in_place(net, "1.bias"),
    "a mean in place": lambda net: _in_place(net, "4.running_mean"),
    "a variance in place": lambda net: _in_place(net, "4.running_var"),
    "the last layer in place": lambda net: _in_place(net, "6.weight"),
    "another state": _load,
}


@pytest.mark.parametrize("momentum", [0.1, None])
@pytest.mark.parametrize("change", CHANGES)
def test_what_changes_in_the_network_is_seen(change: str, momentum: float | None) -> None:
    net = freezable("biased convolutions").eval()
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = momentum
    frozen = FoldedNet(net, torch.float64, stem_channels=8)
    before = frozen(images())
    CHANGES[change](net)
    assert not torch.allclose(net(images()), before, rtol=1e-3), "nothing was tested"
    assert_same_function(frozen, net)
    CHANGES[change](net)
    assert_same_function(frozen, net)


@pytest.mark.parametrize("change", CHANGES)
def test_in_bfloat16_too_what_changes_is_seen(change: str) -> None:
    net = freezable("biased convolutions").float()
    model = FastModel(classifier(net, "bf16")).eval()
    x = images_for(net)
    with torch.no_grad():
        before = model(x)
    CHANGES[change](net)
    anew = FastModel(copy.deepcopy(model.classifier)).eval()
    with torch.no_grad():
        assert not torch.equal(model(x), before)
        assert torch.equal(model(x), anew(x))


# The network itself


@every_net
def test_the_network_is_left_as_it_is(name: str) -> None:
    net = freezable(name).train()
    list(net.modules())[-1].eval()
    modes = [module.training for module in net.modules()]
    state, keys = copy.deepcopy(net.state_dict()), set(vars(net))
    flags = [parameter.requires_grad for parameter in net.parameters()]
    model = FastModel(classifier(net))
    assert [module.training for module in net.modules()] == modes
    with evaluating(model):
        gradient = input_gradient(lambda z: model(z).square().sum(), images())
    assert gradient.any()
    assert [module.training for module in net.modules()] == modes
    assert_close(dict(net.state_dict()), dict(state), rtol=0, atol=0)
    assert set(vars(net)) == keys
    assert [parameter.requires_grad for parameter in net.parameters()] == flags
    assert all(parameter.grad is None for parameter in net.parameters())


@pytest.mark.parametrize("wanted", [True, False])
@every_net
def test_only_the_image_gets_a_gradient_and_weights_need_not_ask_for_any(name: str, wanted: bool) -> None:
    net = freezable(name).requires_grad_(wanted).eval()
    leaf = images().requires_grad_()
    logits = FoldedNet(net, torch.float64)(leaf)
    assert leaves(logits) == {leaf.data_ptr()}


# What cannot be frozen


@pytest.mark.parametrize("name", UNFOLDABLE)
def test_what_cannot_be_frozen_says_why_and_stays_right(name: str) -> None:
    build, why = UNFOLDABLE[name]
    net = shaken(build()).double()
    if name == "no batch norm":
        assert FoldedNet(net, torch.float64).folded == 0
    else:
        with pytest.raises(CannotFoldError) as error:
            FoldedNet(net, torch.float64)
        assert str(error.value) == why
    model = FastModel(classifier(net)).eval()
    assert_same_function(model, model.classifier)
    assert model.notes == {"fold": why}
    assert not model.folds


def test_left_out_by_the_user_nothing_is_said() -> None:
    model = FastModel(classifier(freezable("biased convolutions")), ("fold",))
    assert (model.folds, model.notes) == (False, {})


def test_a_network_may_have_nothing_to_copy_but_its_head() -> None:
    assert FoldedNet(nn.Sequential(nn.Flatten(), nn.Linear(192, 5)), torch.float32).folded == 0


@pytest.mark.parametrize("name", FOLDABLE)
def test_in_bfloat16_logits_are_float32_and_near(name: str) -> None:
    net = freezable(name).float()
    model = FastModel(classifier(net, "bf16")).eval()
    x = images_for(net)
    with torch.no_grad():
        mine, autocast = model(x), model.classifier(x)
        model.classifier.precision = "fp32"
        truth = model.classifier(x)
    assert model.folds == (FOLDABLE[name][1] > 0)
    assert mine.dtype == torch.float32
    assert (mine - truth).norm() <= 2 * (autocast - truth).norm()
