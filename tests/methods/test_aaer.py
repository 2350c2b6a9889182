"""AAER's regulariser, on a net on which about half of the examples are abnormal: smooth ones have none."""

import pytest
import torch
import torch.nn.functional as F

from fatbench.interface import Batch

from . import EPS, SGD, first_loss, make_batches, same, trained, wavy_net
from .test_equivalence import load_twin

BASES = {"rs": "fgsm-rs", "n": "n-fgsm"}
LAMBDAS = {"lambda1": 1.7, "lambda2": 0.6, "lambda3": 2.3}
NOTHING = {"lambda1": 0.0, "lambda2": 0.0, "lambda3": 0.0}
every_base = pytest.mark.parametrize("base", BASES)


@every_base
@pytest.mark.parametrize("detach_ce", [True, False])
def test_where_examples_are_abnormal_it_trains_as_its_twin(base, detach_ce):
    twin, _ = load_twin("aaer")
    theirs, settings = wavy_net(), {"base": base, "detach_ce": detach_ce, **LAMBDAS}
    torch.manual_seed(2)
    twin(theirs, make_batches(), eps=EPS["linf"], **SGD, **settings)
    mine = trained("aaer", wavy_net, **settings)
    assert same(mine, theirs.state_dict())
    for key in LAMBDAS:
        if not (key == "lambda2" and detach_ce):
            assert not same(mine, trained("aaer", wavy_net, **settings | {key: 0.0})), f"{key} was not tested"


@every_base
@pytest.mark.parametrize("weights", [NOTHING, {"lambda1": 0.0}], ids=["all", "lambda1"])
def test_without_weights_it_is_its_base(base, weights):
    assert same(trained("aaer", wavy_net, base=base, **weights), trained(BASES[base], wavy_net))
    assert not same(trained("aaer", wavy_net, base=base), trained(BASES[base], wavy_net))


@every_base
def test_the_weight_of_the_fall_in_loss_is_inert_as_published_and_alive_as_meant(base):
    def without_and_with(*, detach_ce):
        return [trained("aaer", wavy_net, base=base, detach_ce=detach_ce, lambda2=weight) for weight in (0.0, 8.5)]

    assert same(*without_and_with(detach_ce=True))
    assert not same(*without_and_with(detach_ce=False))


def test_the_fall_in_loss_is_part_of_the_loss_that_is_shown():
    batch = make_batches()[0]
    plain, (before, after) = loss_of(batch, lambda2=0.0, lambda3=0.0)
    torch.testing.assert_close(plain, F.cross_entropy(after.logits, batch.y))
    fall = sum(
        max(0.0, a - b) for a, b in zip(loss_per_image(before, batch), loss_per_image(after, batch), strict=True)
    )
    weighted, _ = loss_of(batch, lambda2=3.0, lambda3=0.0)
    assert fall > 0
    assert (weighted - plain).item() == pytest.approx(3.0 * fall / len(batch.y))


@pytest.mark.parametrize("abnormal", [True, False])
def test_a_batch_of_only_one_kind_is_not_regularised(abnormal):
    whole = make_batches()[0]
    for row in range(len(whole.y)):  # alone, an image is all of its batch
        batch = Batch(*(column[[row]] for column in whole))
        loss, (before, after) = loss_of(batch, lambda2=30.0, lambda3=30.0)
        if (loss_per_image(before, batch) > loss_per_image(after, batch)) == abnormal:
            torch.testing.assert_close(loss, F.cross_entropy(after.logits, batch.y))
            return
    pytest.fail("no such image")


def loss_of(batch, **settings):
    torch.manual_seed(2)
    return first_loss("aaer", wavy_net(), batch, **settings)


def loss_per_image(seen, batch):
    return F.cross_entropy(seen.logits, batch.y, reduction="none").tolist()
