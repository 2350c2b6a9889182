"""The fast engine trains as the reference engine does: to rounding in float64, to what rounding entails in less."""

from functools import cache
from typing import get_args

import pytest
import torch
from torch import Tensor
from torch.autograd.graph import increment_version
from torch.testing import assert_close

from fatbench import methods
from fatbench.config.spec import EnginePart
from fatbench.training.engine.fast_model import FastModel
from tests.methods import SGD, make_context, of_every_kind, train
from tests.methods.test_equivalence import load_twin

from . import CASES, classifier, colour_batches, colour_net, make_spec, make_trial

BATCHES = 3
LARGE = {"batch_size": 128, "lr": 0.0625}
every_case = pytest.mark.parametrize(("name", "norm"), CASES)
ROUNDED = [pytest.param(*case, marks=of_every_kind(case[0])) for case in CASES]


def assert_near(mine: dict[str, Tensor], theirs: dict[str, Tensor]) -> None:
    """In float64 both engines agree to 1e-15 here; one operation left out, or a stale weight, shows by 1e-3 or more."""
    assert_close(mine, theirs, rtol=0, atol=1e-11)


# Float64, where equal means equal

FORMS: dict[str, dict[str, object]] = {
    "whole": {},
    "padded stem": {"stem_channels": 8},
    "no fold": {"without": ("fold",)},
    "no channels-last": {"without": ("channels-last",)},
}


def trained(name: str, norm: str, form: str | None, *, fused: bool = False) -> dict[str, Tensor]:
    """The state after three batches of colour images: of the classifier, or of a form of the fast model."""
    plain = classifier(colour_net()).double()
    model = plain if form is None else FastModel(plain, **FORMS[form])  # type: ignore[arg-type]
    opt, ctx = torch.optim.SGD(model.parameters(), **SGD, fused=fused), make_context(norm)
    if fused:
        opt.register_step_post_hook(lambda *_: increment_version(list(model.parameters())))
    torch.manual_seed(2)
    train(methods.load(name, **load_twin(name)[1]), model, colour_batches(BATCHES), ctx, opt)
    momentum = {f"momentum {name}": opt.state[one]["momentum_buffer"] for name, one in plain.named_parameters()}
    return plain.state_dict() | momentum | ctx.buffers | {"random": torch.get_rng_state()}


reference = cache(trained)


@pytest.mark.parametrize("form", FORMS)
@every_case
def test_on_colour_images_every_form_of_the_model_trains_as_the_classifier(name: str, norm: str, form: str) -> None:
    assert_near(trained(name, norm, form, fused=form == "whole"), reference(name, norm, None))


@cache
def by_the_reference(name: str, norm: str, precision: str, *, double: bool) -> tuple[list[float], dict[str, Tensor]]:
    """Losses and end of three batches; of two, and large ones, where rounding is not negligible."""
    size, batches = ({}, BATCHES) if double else (LARGE, 2)
    trial = make_trial(make_spec(name, norm, engine="reference", precision=precision, **size), double=double)
    return trial.run(batches), trial.state


@every_case
def test_on_digits_the_whole_engine_trains_as_the_reference(name: str, norm: str) -> None:
    trial = make_trial(make_spec(name, norm, engine="fast"), double=True).prepare()
    start = {name: value.clone() for name, value in trial.context.model.state_dict().items()}
    losses, (expected, state) = trial.run(BATCHES), by_the_reference(name, norm, "fp32", double=True)
    assert losses == pytest.approx(expected, rel=1e-6)  # their sum is kept in float32
    assert_near(trial.state, state)
    moved = [not torch.equal(start[key], value) for key, value in trial.context.model.state_dict().items()]
    assert sum(moved) == len(moved) - 2  # all but mean and std: something was tested
    assert isinstance(trial.training.model, FastModel)
    assert trial.training.model.folds


@pytest.mark.parametrize("toggle", get_args(EnginePart))
@pytest.mark.parametrize("name", ["bs-trades", "free-at"])
def test_whatever_is_left_out_the_engine_trains_as_the_reference_and_says_so(name: str, toggle: str) -> None:
    trial = make_trial(make_spec(name, engine="fast", without=[toggle]), double=True).prepare()
    assert trial.info is not None
    on = {"channels-last", "fold", "fused-sgd"} - {toggle}
    assert {part for part, in_force in trial.info.in_force.items() if in_force} == on
    trial.run(BATCHES)
    assert_near(trial.state, by_the_reference(name, "linf", "fp32", double=True)[1])


# Float32 and bfloat16: that these train as well as float64 allows; the proof is above


def error(state: dict[str, Tensor], truth: dict[str, Tensor]) -> float:
    """How far weights and statistics are from the true ones, relative to their length."""
    keys = [key for key in truth if not key.startswith(("momentum", "buffer"))]
    mine, true = (torch.cat([one[key].flatten().double() for key in keys]) for one in (state, truth))
    return float((mine - true).norm() / true.norm())


@pytest.mark.parametrize(("name", "norm"), ROUNDED)
def test_in_float32_the_engines_part_no_further_than_rounding_sends_them(name: str, norm: str) -> None:
    """Where a gradient is almost 0 its sign is rounding's, and a pixel goes the other way.

    The reference engine itself, its first weights nudged by 6e-8 of themselves, ends up 1e-7 away where no sign flips
    and up to 9e-4 where some do, relative to the weights' length, its loss up to 3e-4.
    """
    losses, truth = by_the_reference(name, norm, "fp32", double=False)
    trial = make_trial(make_spec(name, norm, engine="fast", **LARGE)).prepare()
    assert sum(trial.run(2)) == pytest.approx(sum(losses), rel=2e-3)
    assert error(trial.state, truth) < 5e-3


@pytest.mark.parametrize(("name", "norm"), ROUNDED)
def test_in_bfloat16_the_fast_engine_is_as_near_to_the_truth_as_autocast(name: str, norm: str) -> None:
    assert_as_near_as_autocast(name, norm, without=[])


def test_without_shadows_it_is_too() -> None:
    assert_as_near_as_autocast("bs-trades", "linf", without=["shadow"])


def assert_as_near_as_autocast(name: str, norm: str, without: list[str]) -> None:
    (exact, truth), (losses, autocast) = (by_the_reference(name, norm, it, double=False) for it in ("fp32", "bf16"))
    spec = make_spec(name, norm, engine="fast", precision="bf16", without=without, **LARGE)
    trial = make_trial(spec).prepare()
    mine = sum(trial.run(2))
    assert mine == pytest.approx(sum(exact), rel=5e-3)
    assert mine == pytest.approx(sum(losses), rel=5e-3)
    assert error(trial.state, truth) < 1.25 * error(autocast, truth)
