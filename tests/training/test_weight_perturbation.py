"""AWP against a naive twin: what the paper's loop does, step by step, in float64."""

import copy
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fatbench import methods
from fatbench.errors import UsageError
from fatbench.interface import Batch
from fatbench.training.passes import count_passes
from fatbench.training.weight_perturbation import perturbed
from tests.methods import EPS, SGD, make_batches, make_context, make_optimizer, smooth_net, train

# Their attack, in eval mode, would see running statistics that the first loss does not move under --awp.
ATTACKED_AFTER_A_FORWARD_OF_THE_LOSS = ("gat", "nuat")
GAMMA, ALPHA, STEPS, BETA = 0.02, 0.5, 3, 4.0
Attack = Callable[[nn.Module, Tensor, Tensor], Tensor]
Loss = Callable[[nn.Module, Tensor, Tensor, Tensor], Tensor]


def pgd(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    eps = EPS["linf"]
    x_adv = (x + torch.empty_like(x).uniform_(-eps, eps)).clamp(0, 1)
    for _ in range(STEPS):
        x_adv = x_adv.detach().requires_grad_()
        (gradient,) = torch.autograd.grad(F.cross_entropy(model(x_adv), y), x_adv)
        x_adv = (x_adv.detach() + ALPHA * eps * gradient.sign()).clamp(x - eps, x + eps).clamp(0, 1)
    return x_adv


def kl(clean: Tensor, other: Tensor) -> Tensor:
    return F.kl_div(F.log_softmax(other, 1), F.softmax(clean, 1), reduction="sum") / len(clean)


def trades_attack(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    eps = EPS["linf"]
    model.eval()
    clean = model(x).detach()
    x_adv = x + 0.0323 * eps * torch.randn_like(x)
    for _ in range(STEPS):
        x_adv = x_adv.detach().requires_grad_()
        (gradient,) = torch.autograd.grad(kl(clean, model(x_adv)), x_adv)
        x_adv = (x_adv.detach() + ALPHA * eps * gradient.sign()).clamp(x - eps, x + eps).clamp(0, 1)
    model.train()
    return x_adv


def trades_loss(model: nn.Module, x: Tensor, x_adv: Tensor, y: Tensor) -> Tensor:
    clean = model(x)
    return F.cross_entropy(clean, y) + BETA * kl(clean, model(x_adv))


def naive(model: nn.Module, batches: list[Batch], attack: Attack, loss_of: Loss) -> None:
    """The paper's loop: a proxy copy ascends the loss; its difference, rescaled, is added, and taken off afterwards."""
    optimizer = torch.optim.SGD(model.parameters(), **SGD)
    for x, y, _ in batches:
        x_adv = attack(model, x, y)
        proxy = copy.deepcopy(model)
        ascent = torch.optim.SGD(proxy.parameters(), lr=0.01)
        ascent.zero_grad()
        (-loss_of(proxy, x, x_adv, y)).backward()
        ascent.step()
        differences = {}
        for (name, old), (_, new) in zip(model.named_parameters(), proxy.named_parameters(), strict=True):
            if old.ndim > 1 and "weight" in name:
                difference = (new - old).detach()
                differences[name] = GAMMA * old.detach().norm() / (difference.norm() + 1e-20) * difference
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                parameter.add_(differences.get(name, 0.0))
        loss = loss_of(model, x, x_adv, y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                parameter.sub_(differences.get(name, 0.0))


@pytest.mark.parametrize(
    ("name", "hyper", "attack", "loss_of"),
    [
        ("pgd-at", {"steps": STEPS, "alpha": ALPHA}, pgd, lambda model, _, x_adv, y: F.cross_entropy(model(x_adv), y)),
        ("trades", {"steps": STEPS, "alpha": ALPHA, "beta": BETA}, trades_attack, trades_loss),
    ],
    ids=["pgd-at", "trades"],
)
def test_three_batches_leave_the_state_of_the_naive_twin(
    name: str, hyper: dict[str, Any], attack: Attack, loss_of: Loss
) -> None:
    mine, theirs, batches = smooth_net(), smooth_net(), make_batches()
    torch.manual_seed(2)
    train(perturbed(methods.load(name, **hyper), GAMMA), mine, batches, make_context("linf"), make_optimizer(mine))
    torch.manual_seed(2)
    naive(theirs, batches, attack, loss_of)
    plain = smooth_net()
    torch.manual_seed(2)
    train(methods.load(name, **hyper), plain, batches, make_context("linf"), make_optimizer(plain))
    for key, value in theirs.state_dict().items():
        torch.testing.assert_close(mine.state_dict()[key], value, rtol=0, atol=1e-9, msg=lambda text, key=key: key)
        if value.ndim > 1:
            assert not torch.allclose(plain.state_dict()[key], value, rtol=0, atol=1e-6), "AWP changed nothing"


@pytest.mark.parametrize("name", methods.names())
def test_every_method_can_be_perturbed_or_says_that_it_makes_several_updates(name: str) -> None:
    model, batches = smooth_net(), make_batches()
    method = perturbed(methods.load(name), GAMMA)
    if name == "free-at":
        with pytest.raises(UsageError, match="--awp goes with methods that take one step per batch; free-at takes sev"):
            train(method, model, batches, make_context("linf"), make_optimizer(model))
        return
    before = {key: value.clone() for key, value in model.state_dict().items()}
    train(method, model, batches, make_context("linf"), make_optimizer(model))
    assert all(value.isfinite().all() for value in model.state_dict().values())
    assert not torch.equal(before["0.weight"], model.state_dict()["0.weight"])


@pytest.mark.parametrize("name", [name for name in methods.names() if name != "free-at"])
def test_a_method_perturbed_by_nothing_is_the_method(name: str) -> None:
    """So the second attack is the first, its state changes once, and batch norm counts each batch once."""
    states, contexts = [], []
    hyper = {"clean_twice": True} if "clean_twice" in methods.describe(name).hyper else {}
    for method in (methods.load(name, **hyper), perturbed(methods.load(name, **hyper), 0.0)):
        model, ctx = smooth_net(), make_context("linf")
        if name in ATTACKED_AFTER_A_FORWARD_OF_THE_LOSS:
            model[1].momentum = model[4].momentum = 0.0
        torch.manual_seed(4)
        train(method, model, make_batches(), ctx, make_optimizer(model))
        states.append(model.state_dict())
        contexts.append(ctx.buffers)
    for key, value in states[0].items():
        torch.testing.assert_close(states[1][key], value, rtol=0, atol=1e-12, msg=lambda text, key=key: key)
    for key, value in contexts[0].items():
        torch.testing.assert_close(contexts[1][key], value, rtol=0, atol=1e-12, msg=lambda text, key=key: key)


def test_it_costs_the_loss_once_more_and_the_attack_not() -> None:
    model = smooth_net()
    for name, extra in (("pgd-at", (1, 1, 1)), ("trades", (2, 2, 2))):
        costs = []
        for method in (methods.load(name), perturbed(methods.load(name), GAMMA)):
            cost = count_passes(model, method, make_batches(1)[0], make_context("linf"))
            costs.append([samples // 6 for samples in cost.passes.model_dump().values()])
        assert [b - a for a, b in zip(*costs, strict=True)] == list(extra), name


def test_weights_are_put_back_when_the_trainer_ends_with_the_step() -> None:
    model, (batch, *_) = smooth_net(), make_batches()
    before = [parameter.detach().clone() for parameter in model.parameters()]
    updates: Iterator[Tensor] = perturbed(methods.load("fgsm"), GAMMA)(model, batch, make_context("linf"))
    next(updates)
    lengths = [
        ((now - was).norm() / was.norm()).item()
        for now, was in zip(model.parameters(), before, strict=True)
        if now.ndim > 1
    ]
    assert lengths == pytest.approx([GAMMA] * len(lengths))
    updates.close()  # type: ignore[attr-defined]
    for now, was in zip(model.parameters(), before, strict=True):
        torch.testing.assert_close(now, was, rtol=0, atol=1e-12)


def test_statistics_are_remembered_again_afterwards() -> None:
    model = smooth_net()
    train(perturbed(methods.load("fgsm"), GAMMA), model, make_batches(), make_context("linf"), make_optimizer(model))
    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    assert [norm.track_running_stats for norm in norms] == [True, True]
    assert [norm.num_batches_tracked.item() for norm in norms] == [6, 6]  # attack and loss, three times


def test_an_engine_hears_that_it_cannot_be_one_graph(tmp_path: Path) -> None:
    assert methods.load("fgsm").description.not_capturable == ""
    assert perturbed(methods.load("fgsm"), GAMMA).description.not_capturable.startswith("--awp takes each loss twice")
