"""The ten faults found in a competing collection of these methods: a test for each, which fatbench passes.

They are those of FastAT_Benchmark (arXiv 2604.22853) as its code stood when we read it.
"""

import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fatbench import methods
from fatbench.config import presets
from fatbench.record import load
from fatbench.runner.setup import set_up
from fatbench.training.averaging import WeightAverage
from tests.methods import EPS, first_loss, make_batches, make_context, same, smooth_net, trained, wavy_net
from tests.runner.test_resume import scripted
from tests.runner.test_runner import make_spec, run


def test_1_the_seed_decides_the_initial_weights() -> None:
    """There the model is built before the seed is set."""
    first = []
    for seed, disturbance in ((0, 5), (0, 6), (1, 5)):
        torch.manual_seed(disturbance)  # whatever ran before in this process
        context = set_up(make_spec("standard", seed=seed), None, download=False)
        first.append(next(context.model.parameters()).detach().clone())
    assert torch.equal(first[0], first[1])
    assert not torch.equal(first[0], first[2])


def test_2_an_average_is_of_parameters_alone_its_own_and_soon_of_use(tmp_path: Path) -> None:
    """There statistics of batch norm are averaged, tensors alias live ones, and for 45 epochs it guesses."""
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2))
    average = WeightAverage(model, ema=0.9995)
    assert [tensor.shape for tensor in average.state().values()] == [(), *(one.shape for one in model.parameters())]
    live = {tensor.data_ptr() for tensor in model.state_dict().values()}
    assert not live & {tensor.data_ptr() for tensor in average.state().values()}
    record = run(make_spec("standard", epochs=3, ema=0.9995, evaluate=["clean"]), output=tmp_path)
    assert record.scores["clean"].accuracy > 0.5


def test_3_elles_weight_is_that_of_its_authors_scripts() -> None:
    """There it is 1, the default of their argparse, and the method collapses."""
    assert {name: methods.load("elle").hyper[name] for name in ("weight", "peak")} == {"weight": 1000.0, "peak": 4000.0}


@pytest.mark.parametrize("step", [0, 1])
def test_4_gats_cross_entropy_is_of_logits_in_every_batch_and_its_weight_grows(step: int) -> None:
    """There a softmax is taken of a softmax in every other batch, and the weight never grows."""
    model, batch, losses = smooth_net(), make_batches()[0], []
    for progress in (0.5, 0.9):
        ctx = make_context("linf")
        ctx.step.fill_(step)
        ctx.progress.fill_(progress)
        seen: list[Tensor] = []
        hook = model.register_forward_hook(lambda _, __, logits, seen=seen: seen.append(logits.detach()))
        torch.manual_seed(3)
        loss = next(iter(methods.load("gat")(model, batch, ctx))).detach()
        hook.remove()
        clean, adversarial = seen[0], seen[-1]
        distance = (clean.softmax(1) - adversarial.softmax(1)).square().sum(1).mean()
        losses.append((loss - F.cross_entropy(clean, batch.y)) / distance)
    torch.testing.assert_close(torch.stack(losses), torch.tensor([10.0, 40.0], dtype=torch.float64))


def test_5_free_at_carries_its_perturbation_on_and_its_replays_are_updates() -> None:
    """There it is zeroed with every batch, and four replays of 200 epochs are 800."""
    ctx, carried = make_context("linf"), []
    method, model = methods.load("free-at", replays=3), smooth_net()
    for batch in make_batches():
        images: list[Tensor] = []
        hook = model.register_forward_pre_hook(lambda _, z, images=images: images.append(z[0].detach().clone()))
        for loss in method(model, batch, ctx):
            loss.backward()
        hook.remove()
        carried.append((images[0] - batch.x).abs().max().item())
    assert carried[0] == 0.0
    assert min(carried[1:]) > 0.5 * EPS["linf"]
    spec = make_spec("free-at", epochs=2, hyper=["replays=4"])
    assert set_up(spec, None, download=False).training().budget.steps == 2 * (1200 // 128)  # updates, not batches


def test_6_nuats_attack_is_made_in_eval_mode() -> None:
    """There it is made in train mode."""
    model, modes = smooth_net(), []
    model.register_forward_pre_hook(lambda module, _: modes.append(module.training))
    next(iter(methods.load("nuat")(model, make_batches()[0], make_context("linf"))))
    assert modes == [True, False, True]


def test_7_fgsm_mep_starts_where_it_remembers_though_that_lies_outside_the_box() -> None:
    """There the start is clamped to the box before the first forward."""
    batch = make_batches()[0]
    _, seen = first_loss("fgsm-mep", smooth_net(), batch)
    assert seen[0].z.min() < 0
    assert seen[0].z.max() > 1


@pytest.mark.parametrize("name", ["fgsm-mep", "fgsm-pco", "fgsm-uap"])
def test_8_the_papers_label_smoothing_leaves_0_6_to_the_true_class(name: str) -> None:
    """There torch's label_smoothing=0.4 leaves it 0.64 of ten classes."""
    logits, y = torch.randn(4, 10, dtype=torch.float64, requires_grad=True), torch.arange(4)

    class Constant(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return logits + 0.0 * x.flatten(1).sum(1, keepdim=True)

    batch = make_batches(size=4)[0]._replace(y=y)
    loss = next(iter(methods.load(name)(Constant(), batch, make_context("linf"))))
    (gradient,) = torch.autograd.grad(loss, logits)  # softmax less target, over 4 images; both logits are the same
    target = logits.detach().softmax(1) - 4 * gradient
    torch.testing.assert_close(target.gather(1, y[:, None]), torch.full((4, 1), 0.6, dtype=torch.float64))
    torch.testing.assert_close(target.sum(1), torch.ones(4, dtype=torch.float64))


def test_9_aaers_second_weight_is_inert_only_where_it_is_asked_to_be() -> None:
    """There it is inert without a word."""
    hyper = methods.describe("aaer").hyper
    assert "without effect while detach_ce" in hyper["lambda2"].meaning
    published = [trained("aaer", wavy_net, lambda2=weight) for weight in (0.0, 8.0)]
    meant = [trained("aaer", wavy_net, lambda2=weight, detach_ce=False) for weight in (0.0, 8.0)]
    assert same(*published)
    assert not same(*meant)


def test_10_a_collapse_is_told_and_the_last_weights_are_scored_beside_the_best(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There only the best checkpoint has a row, so a run that collapsed looks like one that did not."""
    scripted(monkeypatch, fgsm=[30, 60, 70], pgd=[20, 45, 1])
    spec = make_spec("fgsm", epochs=3, select="best", evaluate=["clean"])
    run(spec, output=tmp_path)
    record = load(tmp_path / f"{spec.id}.json")
    assert record.selection is not None
    assert (record.selection.policy, record.selection.epoch) == ("best", 2)
    assert record.selection.last_scores.keys() == record.scores.keys() == {"clean"}
    assert [(event.kind, event.epoch) for event in record.events] == [("catastrophic-overfitting", 3)]


def _recipes() -> Iterator[tuple[str, dict[str, object]]]:
    for path in sorted(presets.FOLDER.glob("*.toml")):
        yield path.stem, tomllib.loads(path.read_text())


def test_no_recipe_brings_elles_weight_of_1_back() -> None:
    weights = [
        track["hyper"]["weight"]
        for _, recipe in _recipes()
        if recipe.get("method") == "elle"
        for track in recipe["tracks"]  # type: ignore[attr-defined]
    ]
    assert weights
    assert min(weights) >= 1000
