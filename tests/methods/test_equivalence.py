"""Every method against oracles that share no code with it: a naive loop, and worst cases in closed form."""

import inspect
import runpy
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from fatbench import methods
from fatbench.interface import Batch

from . import EPS, SGD, make_batches, make_context, make_optimizer, smooth_net, train

REFERENCES = Path(__file__).parents[1] / "references"
CASES = [(name, norm) for name in methods.names() for norm in methods.describe(name).norms]


def load_twin(name):
    path = REFERENCES / f"{name.replace('-', '_')}.py"
    assert path.is_file(), f"{name} has no naive twin: write {path} from the paper, not from fatbench"
    twin = runpy.run_path(str(path))
    return twin["train"], twin["SETTINGS"]


def train_both(name, norm, settings):
    """Return the two models' states and how far each went through the random stream."""
    twin, _ = load_twin(name)
    batches, mine, theirs = make_batches(), smooth_net(), smooth_net()
    torch.manual_seed(2)
    train(methods.load(name, **settings), mine, batches, make_context(norm), make_optimizer(mine))
    my_stream = torch.get_rng_state()
    torch.manual_seed(2)
    twin(theirs, batches, eps=EPS[norm], **SGD, **settings, **({"norm": norm} if norm != "linf" else {}))
    return mine.state_dict(), theirs.state_dict(), my_stream, torch.get_rng_state()


@pytest.mark.parametrize("changed", [False, True], ids=["defaults", "changed"])
@pytest.mark.parametrize(("name", "norm"), CASES)
def test_three_momentum_batches_leave_the_state_of_the_naive_twin(name, norm, changed):
    settings = load_twin(name)[1] if changed else {}
    mine, theirs, my_stream, their_stream = train_both(name, norm, settings)
    start = smooth_net().state_dict()
    for key, value in theirs.items():
        assert not torch.equal(value, start[key]), f"{key} never moved: nothing was tested"
        torch.testing.assert_close(mine[key], value, rtol=0, atol=1e-9, msg=lambda text, key=key: f"{key}: {text}")
    assert torch.equal(my_stream, their_stream), "method and twin draw different random numbers"


@pytest.mark.parametrize("name", methods.names())
def test_the_twin_is_also_tried_with_every_hyperparameter_off_its_default(name):
    _, settings = load_twin(name)
    defaults = {key: hyper.default for key, hyper in methods.describe(name).hyper.items()}
    assert settings.keys() == defaults.keys()
    assert [key for key in settings if settings[key] == defaults[key]] == []


@pytest.mark.parametrize("name", methods.names())
def test_method_and_twin_have_the_same_defaults(name):
    """Not every default shows in what is trained: a step of 1.25 eps ends on the ball's wall, as one of 2 does."""
    twin, _ = load_twin(name)
    described = inspect.signature(twin).parameters
    for key, hyper in methods.describe(name).hyper.items():
        assert described[key].default == hyper.default, key


@pytest.mark.parametrize("path", sorted(REFERENCES.glob("[_a-z]*[a-z].py")), ids=lambda path: path.stem)
def test_every_twin_belongs_to_a_method_and_knows_nothing_but_torch(path):
    assert path.stem == "_common" or path.stem.replace("_", "-") in methods.names()
    imports = {line.split()[1] for line in path.read_text().splitlines() if line.startswith(("import ", "from "))}
    assert {name.partition(".")[0] for name in imports - {"tests.references._common"}} == {"torch"}


class LinearMargin(nn.Module):
    """Two classes with the logits 0 and w.x + b, so the loss is softplus of minus the margin."""

    def __init__(self, weight, bias):
        super().__init__()
        self.weight, self.bias, self.last_input = nn.Parameter(weight), nn.Parameter(bias), None

    def forward(self, x):
        self.last_input = x.detach()
        margin = x.flatten(1) @ self.weight + self.bias
        return torch.stack([torch.zeros_like(margin), margin], 1)


@pytest.mark.parametrize(
    ("name", "settings"), [("fgsm", {}), ("fgsm-rs", {"alpha": 2.0}), ("pgd-at", {}), ("free-at", {"replays": 2})]
)
def test_on_a_linear_model_the_attack_finds_the_worst_image_in_closed_form(name, settings):
    x, eps = make_batches()[0].x, EPS["linf"]
    y = torch.tensor([0, 1] * (len(x) // 2))
    weight = torch.linspace(-1.0, 1.3, 36, dtype=torch.float64)
    model = LinearMargin(weight, torch.tensor(0.2, dtype=torch.float64))
    *_, loss = consume(methods.load(name, **settings), model, Batch(x, y, torch.arange(len(x))))

    hurts_upwards = (weight.view(1, 1, 6, 6) > 0) == (y == 0).view(-1, 1, 1, 1)
    worst = torch.where(hurts_upwards, (x + eps).clamp(max=1.0), (x - eps).clamp(min=0.0))
    margin = (worst.flatten(1) @ weight + 0.2) * (2 * y - 1)
    torch.testing.assert_close(model.last_input, worst, rtol=0, atol=1e-12)
    torch.testing.assert_close(loss, F.softplus(-margin).mean(), rtol=0, atol=1e-12)


def test_under_l2_the_attack_on_a_linear_model_climbs_to_the_far_point_of_the_sphere():
    eps, y = 0.3, torch.tensor([0, 1])
    x = torch.full((2, 1, 6, 6), 0.5, dtype=torch.float64)  # far enough from the box for the sphere to be whole
    weight = torch.linspace(-1.0, 1.3, 36, dtype=torch.float64)
    model = LinearMargin(weight, torch.tensor(0.2, dtype=torch.float64))
    method = methods.load("pgd-at", steps=20, alpha=1.0)  # each step halves the angle
    *_, loss = consume(method, model, Batch(x, y, torch.arange(2)), make_context("l2", eps))

    clean_margin = (x.flatten(1) @ weight + 0.2) * (2 * y - 1)
    torch.testing.assert_close(loss, F.softplus(eps * weight.norm() - clean_margin).mean(), rtol=0, atol=1e-10)


def consume(method, model, batch, ctx=None):
    """Return every loss, detached, with the weights held still: the attack alone is looked at."""
    losses = []
    for loss in method(model, batch, ctx or make_context("linf")):
        loss.backward()
        losses.append(loss.detach())
    return losses
