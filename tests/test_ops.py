"""The shared idioms against definitions: divergences in closed form, gradients that leave no trace, modes put back."""

import copy
import math

import pytest
import torch
from torch import nn
from torch.distributions import Categorical, kl_divergence

from fatbench.errors import UsageError
from fatbench.ops import (
    AttackReplay,
    evaluating,
    input_gradient,
    input_gradient_with,
    kl,
    repeating_statistics,
    replaying_attacks,
    shared_input_gradient,
)
from fatbench.threat import Linf

P_LOGITS = torch.tensor([[0.3, -1.2, 2.0], [5.0, 0.0, -5.0]], dtype=torch.float64)
Q_LOGITS = torch.tensor([[1.0, 0.5, -0.7], [4.0, 1.0, -9.0]], dtype=torch.float64)


def softmax(logits):
    weights = [math.exp(logit) for logit in logits]
    return [weight / sum(weights) for weight in weights]


def rows():
    return zip(map(softmax, P_LOGITS.tolist()), map(softmax, Q_LOGITS.tolist()), strict=True)


def test_kl_is_the_expected_log_ratio_row_by_row():
    written_out = [sum(a * math.log(a / b) for a, b in zip(p, q, strict=True)) for p, q in rows()]
    torch.testing.assert_close(kl(P_LOGITS, Q_LOGITS), torch.tensor(written_out, dtype=torch.float64))


def test_kl_agrees_with_torch_distributions_and_forgets_what_softmax_forgets():
    torch.manual_seed(0)
    p, q = torch.randn(2, 50, 10, dtype=torch.float64).mul(4)
    torch.testing.assert_close(kl(p, q), kl_divergence(Categorical(logits=p), Categorical(logits=q)))
    torch.testing.assert_close(kl(p + 7.0, q - 30.0), kl(p, q))
    torch.testing.assert_close(kl(p, p + 5.0), torch.zeros(50, dtype=torch.float64))


def test_the_gradient_of_kl_reaches_both_arguments():
    p_logits, q_logits = P_LOGITS.clone().requires_grad_(), Q_LOGITS.clone().requires_grad_()
    kl(p_logits, q_logits).sum().backward()
    to_p, to_q = [], []
    for p, q in rows():
        ratios = [math.log(a / b) for a, b in zip(p, q, strict=True)]
        mean = sum(a * ratio for a, ratio in zip(p, ratios, strict=True))
        to_p.append([a * (ratio - mean) for a, ratio in zip(p, ratios, strict=True)])
        to_q.append([b - a for a, b in zip(p, q, strict=True)])
    torch.testing.assert_close(p_logits.grad, torch.tensor(to_p, dtype=torch.float64))
    torch.testing.assert_close(q_logits.grad, torch.tensor(to_q, dtype=torch.float64))


def test_kl_and_its_gradients_stay_finite_for_logits_far_apart():
    p_logits = torch.tensor([[1e4, 0.0], [-1e4, 1e4]], requires_grad=True)
    q_logits = torch.tensor([[0.0, 1e4], [-1e4, 1e4]], requires_grad=True)
    divergence = kl(p_logits, q_logits)
    divergence.sum().backward()
    torch.testing.assert_close(divergence.detach(), torch.tensor([1e4, 0.0]))
    assert p_logits.grad.isfinite().all()
    torch.testing.assert_close(q_logits.grad, torch.tensor([[-1.0, 1.0], [0.0, 0.0]]))


# evaluating


def mixed_model():
    """A model whose modules are not all in one mode: the frozen batch norm of fine-tuning."""
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Sequential(nn.BatchNorm2d(2), nn.Dropout(0.5)), nn.Flatten())
    model.train()
    model[1][0].eval()
    return model


MIXED = [True, True, True, False, True, True]


def modes(model):
    return [module.training for module in model.modules()]


def test_evaluating_puts_every_module_back_as_it_was():
    model = mixed_model()
    with evaluating(model):
        assert modes(model) == [False] * 6
    assert modes(model) == MIXED


def test_evaluating_puts_every_module_back_after_an_exception():
    model = mixed_model()
    with pytest.raises(KeyError, match="boom"), evaluating(model):
        raise KeyError("boom")
    assert modes(model) == MIXED


def test_evaluating_may_be_nested_and_leaves_an_evaluated_model_in_eval_mode():
    model = mixed_model()
    with evaluating(model):
        with evaluating(model):
            assert modes(model) == [False] * 6
        assert modes(model) == [False] * 6
    assert modes(model) == MIXED


def test_evaluating_keeps_the_running_statistics_still():
    model = mixed_model()
    model.train()
    before = model[1][0].running_mean.clone()
    with evaluating(model):
        model(torch.rand(4, 1, 5, 5))
    assert torch.equal(model[1][0].running_mean, before)
    model(torch.rand(4, 1, 5, 5))
    assert not torch.equal(model[1][0].running_mean, before)


# repeating_statistics


@pytest.mark.parametrize(
    ("momentum", "frozen", "wanted"), [(0.1, 0, True), (0.7, 0, True), (0.1, 1, True), (0.1, 0, False)]
)
def test_repeated_statistics_are_those_of_a_second_forward_and_the_gradients_of_one(momentum, frozen, wanted):
    torch.manual_seed(0)
    norms = [nn.BatchNorm2d(2, momentum=momentum), nn.BatchNorm2d(3, momentum=momentum)]
    mine = nn.Sequential(nn.Conv2d(1, 2, 3), norms[0], nn.Tanh(), nn.Conv2d(2, 3, 3), norms[1]).double()
    for norm in norms[:frozen]:
        norm.eval()
    theirs = copy.deepcopy(mine)
    for _ in range(3):
        x, other = torch.rand(2, 8, 1, 6, 6, dtype=torch.float64)
        with repeating_statistics(mine, wanted) as repeat:
            answer = mine(x)
        answer = answer * mine(other)
        repeat()
        answer.square().mean().backward()
        (theirs(x) * theirs(other)).square().mean().backward()
        if wanted:
            theirs(x)
    torch.testing.assert_close(mine.state_dict(), theirs.state_dict(), rtol=0, atol=1e-12)
    for one, another in zip(mine.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(one.grad, another.grad, rtol=0, atol=1e-12)


def test_an_average_over_all_batches_is_not_repeated():
    norm = nn.BatchNorm2d(1, momentum=None)
    with repeating_statistics(norm, True) as repeat:
        norm(torch.rand(4, 1, 2, 2))
    with pytest.raises(UsageError, match="momentum=None"):
        repeat()


# input gradients


def cubes(z):
    return (z**3).sum()


@pytest.mark.parametrize("grad_mode", [torch.no_grad, torch.enable_grad])
def test_the_input_gradient_is_that_of_the_objective_and_carries_no_graph(grad_mode):
    z = torch.tensor([[0.0, 0.5], [1.0, -2.0]])
    with grad_mode():
        gradient = input_gradient(cubes, z)
    torch.testing.assert_close(gradient, torch.tensor([[0.0, 0.75], [3.0, 12.0]]))
    assert not gradient.requires_grad
    assert not z.requires_grad
    assert z.grad is None


def test_the_input_gradient_is_not_taken_through_what_built_the_input():
    weight = torch.tensor(2.0, requires_grad=True)
    z = (weight * torch.tensor([0.25, 0.5, 3.0])).clamp(0.0, 1.0)
    torch.testing.assert_close(input_gradient(cubes, z), torch.tensor([0.75, 3.0, 3.0]))
    assert weight.grad is None
    assert z.requires_grad  # its own graph is still there for whoever built it


def test_pixels_on_the_walls_of_the_box_get_their_gradient():
    """torch versions disagree on clamp's gradient at its bounds; FGSM training loses 40 points to the wrong one."""
    x = torch.tensor([[[[0.0, 1.0, 0.3, 0.0, 1.0]]]])
    weight = torch.tensor([1.0, -2.0, 3.0, -4.0, 5.0])
    projected = Linf(0.1).project(x + torch.tensor([-0.05, 0.05, 0.0, 0.0, 0.0]), x)
    assert torch.equal(projected, x)
    for z in (x, projected):
        torch.testing.assert_close(input_gradient(lambda leaf: (leaf * weight).sum(), z).flatten(), weight)


def test_weights_get_no_gradient_and_none_is_computed():
    model, computed = nn.Linear(3, 2), []
    model.weight.grad = torch.ones(2, 3)
    model.weight.register_hook(lambda _: computed.append("weight"))
    model.bias.register_hook(lambda _: computed.append("bias"))
    gradient = input_gradient(lambda z: model(z).sum(), torch.rand(4, 3))
    torch.testing.assert_close(gradient, model.weight.detach().sum(0).expand(4, 3))
    assert torch.equal(model.weight.grad, torch.ones(2, 3))
    assert model.bias.grad is None
    assert computed == []
    model(torch.rand(4, 3)).sum().backward()
    assert sorted(computed) == ["bias", "weight"]  # the hooks do see a gradient when there is one


def test_what_is_kept_beside_the_gradient_is_detached():
    model, z = nn.Linear(3, 2), torch.rand(4, 3)
    expected = model(z).detach()

    def objective(leaf):
        logits = model(leaf)
        return (logits**2).sum(), logits

    gradient, kept = input_gradient_with(objective, z)
    assert torch.equal(kept, expected)
    assert not kept.requires_grad
    assert not gradient.requires_grad
    torch.testing.assert_close(gradient, 2 * expected @ model.weight.detach())


def test_a_shared_input_gradient_leaves_what_is_kept_its_graph_and_computes_no_weight_gradient():
    model, z, computed = nn.Linear(3, 2), torch.rand(4, 3), []
    model.weight.register_hook(lambda _: computed.append("weight"))

    def objective(leaf):
        logits = model(leaf)
        return (logits**2).sum(), logits

    gradient, kept = shared_input_gradient(objective, z)
    assert torch.equal(gradient, input_gradient(lambda leaf: objective(leaf)[0], z))
    assert not gradient.requires_grad
    assert computed == []
    kept.sum().backward()
    torch.testing.assert_close(model.weight.grad, z.sum(0).expand(2, 3))
    assert z.grad is None


def test_a_shared_input_gradient_at_a_leaf_leaves_the_losss_gradient_there_and_not_the_attacks():
    model, z = nn.Linear(3, 2), torch.rand(4, 3, requires_grad=True)
    gradient, kept = shared_input_gradient(lambda leaf: (model(leaf).square().sum(), model(leaf)), z)
    torch.testing.assert_close(gradient, 2 * (model(z) @ model.weight).detach())
    assert z.grad is None
    kept.sum().backward()
    torch.testing.assert_close(z.grad, model.weight.sum(0).expand(4, 3))


def test_a_played_tape_gives_the_recorded_gradient_and_what_is_kept_anew():
    model, z, replay = nn.Linear(3, 2), torch.rand(4, 3), AttackReplay(torch.get_rng_state, torch.set_rng_state)

    def objective(leaf):
        logits = model(leaf)
        return (logits**2).sum(), logits

    with replaying_attacks(replay):
        gradient, _ = shared_input_gradient(objective, z)
    with torch.no_grad():
        model.weight.add_(1.0)
    replay.replay()
    with replaying_attacks(replay):
        again, kept = shared_input_gradient(objective, z)
    assert again is gradient
    assert torch.equal(kept, model(z))
    kept.sum().backward()
    torch.testing.assert_close(model.weight.grad, z.sum(0).expand(2, 3))
