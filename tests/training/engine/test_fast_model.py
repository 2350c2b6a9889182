"""When the fast model answers by which network, and networks that are not what one expects."""

import copy
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.testing import assert_close

from fatbench.ops import evaluating, input_gradient
from fatbench.training.engine.fast_model import FastModel

from . import classifier, colour_batches, colour_net
from .nets import AWKWARD, FOLDABLE, SHAPE, UNFOLDABLE, shaken

# What is asked of a model: each leaves statistics, and logits or gradients


def loss(model: nn.Module, x: Tensor) -> list[Tensor]:
    logits = model(x)
    weights = [weight for weight in model.parameters() if weight.requires_grad]
    return [logits.detach(), *torch.autograd.grad(logits.square().mean(), weights)]


def attack(model: nn.Module, x: Tensor) -> list[Tensor]:
    return [input_gradient(lambda z: model(z).square().mean(), x)]


@torch.no_grad()
def look(model: nn.Module, x: Tensor) -> list[Tensor]:
    return [model(x)]


def two_gradients(model: nn.Module, x: Tensor) -> list[Tensor]:
    """Both an image's and the weights', as in Free AT."""
    leaf = x.clone().requires_grad_()
    return list(torch.autograd.grad(model(leaf).square().mean(), [leaf, *model.parameters()]))


def loss_within_an_attack(model: nn.Module, x: Tensor) -> list[Tensor]:
    """A gradient of weights is wanted again as soon as the attack is over."""
    return [*attack(model, x), *loss(model, x)]


MODES: dict[str, Callable[[nn.Module], object]] = {
    "train": lambda net: net.train(),
    "eval": lambda net: net.eval(),
    "one norm in eval": lambda net: (net.train(), net[1].eval()),
    "one norm in train": lambda net: (net.eval(), net[4].train()),
}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("asked", [loss, attack, look, two_gradients, loss_within_an_attack])
def test_whatever_is_asked_in_whatever_mode_the_answer_is_the_classifiers(
    asked: Callable[[nn.Module, Tensor], list[Tensor]], mode: str
) -> None:
    plain = classifier(shaken(colour_net())).double()
    fast = FastModel(copy.deepcopy(plain))
    for model in (plain, fast.classifier):
        MODES[mode](model.net)
    for batch in colour_batches():
        assert_close(asked(fast, batch.x), asked(plain, batch.x), rtol=0, atol=1e-10)
        assert_close(dict(fast.classifier.state_dict()), dict(plain.state_dict()), rtol=0, atol=1e-10)


def test_train_and_eval_reach_the_network_and_its_parameters_are_the_classifiers() -> None:
    plain = classifier(colour_net())
    parameters = list(plain.parameters())
    model = FastModel(plain)
    model(colour_batches(dtype=torch.float32)[0].x)  # weights find their memory format
    model.eval()
    assert not any(module.training for module in plain.modules())
    model.train()
    assert all(module.training for module in plain.modules())
    assert [id(parameter) for parameter in model.parameters()] == [id(parameter) for parameter in parameters]
    assert all(
        parameter.is_contiguous(memory_format=torch.channels_last) for parameter in parameters if parameter.ndim == 4
    )


def test_an_attack_that_fails_leaves_gradients_of_weights_wanted() -> None:
    model = FastModel(classifier(colour_net()).double()).eval()
    (batch, *_) = colour_batches()

    def fails(_: Tensor) -> Tensor:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        input_gradient(fails, batch.x)
    F.cross_entropy(model(batch.x), batch.y).backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


# Other people's networks

UNUSUAL = AWKWARD | {name: build for name, (build, _) in (FOLDABLE | UNFOLDABLE).items()}


def life(model: nn.Module, x: Tensor) -> list[Tensor]:
    """A forward and an attack in either mode, with a step in between; without what is random."""
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    found = []
    opt = torch.optim.SGD([weight for weight in model.parameters() if weight.requires_grad], lr=0.1)
    for _ in range(2):
        model.eval()
        found += look(model, x) + attack(model, x)
        model.train()
        F.cross_entropy(logits := model(x), torch.arange(len(x)) % 5).backward()
        found.append(logits.detach())
        opt.step()
        opt.zero_grad()
    return found


def built(name: str) -> nn.Module:
    torch.manual_seed(0)
    return shaken(UNUSUAL[name]())


@pytest.mark.parametrize("name", UNUSUAL)
def test_an_unusual_network_trains_as_it_would_in_the_classifier(name: str) -> None:
    torch.manual_seed(1)
    x = torch.rand(6, *SHAPE)
    fast, plain = FastModel(classifier(built(name))), classifier(built(name))
    for mine, theirs in zip(life(fast, x), life(plain, x), strict=True):
        assert float((mine - theirs).norm()) < 1e-4 * float(theirs.norm())


@pytest.mark.parametrize("name", UNUSUAL)
def test_an_unusual_network_does_so_in_bfloat16_too(name: str) -> None:
    torch.manual_seed(1)
    x = torch.rand(6, *SHAPE)
    fast, plain, exact = (classifier(built(name), precision) for precision in ("bf16", "bf16", "fp32"))
    for mine, autocast, truth in zip(life(FastModel(fast), x), life(plain, x), life(exact, x), strict=True):
        slack = 0.02 if truth.ndim == 2 else 0.12  # of logits; of gradients, where one ReLU may turn
        assert mine.dtype == torch.float32
        assert float((mine - truth).norm()) < 2 * float((autocast - truth).norm()) + slack * float(truth.norm())
    assert all(not value.is_floating_point() or value.dtype == torch.float32 for value in fast.state_dict().values())


def test_a_hook_that_comes_later_runs_in_an_attack_too() -> None:
    model = FastModel(classifier(colour_net()).double()).eval()
    (batch, *_) = colour_batches()
    attack(model, batch.x)
    assert model.folds
    heard: list[int] = []
    model.classifier.net[0].register_forward_hook(lambda *_: heard.append(1))
    attack(model, batch.x)
    assert heard == [1]


@pytest.mark.parametrize("name", [*FOLDABLE, "a Sequential with arguments", "a Sequential with a forward"])
def test_what_can_be_computed_faster_is(name: str) -> None:
    model = FastModel(classifier(built(name), "bf16"))
    model(torch.rand(8, *SHAPE))
    nothing_to_fold = name in FOLDABLE and not FOLDABLE[name][1]
    assert model.notes == ({"fold": "no batch norm follows a convolution"} if nothing_to_fold else {})
    assert model.in_force["channels-last"]
    assert model.in_force["shadow"]


def test_dropout_goes_on_dropping() -> None:
    net = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout(0.5), nn.Flatten(), nn.Linear(144, 5)
    )
    model, x = FastModel(classifier(net)), torch.rand(4, *SHAPE)
    assert not torch.equal(model(x), model(x))
    with evaluating(model), torch.no_grad():
        assert torch.equal(model(x), model(x))
    assert not torch.equal(model(x), model(x))
