"""Neighbours of FGSM: N-FGSM's noise, which nothing clips off, and ZeroGrad's threshold, against torch's quantile."""

import pytest
import torch

from fatbench import methods
from fatbench.errors import UsageError
from fatbench.interface import Batch

from . import EPS, first_loss, make_batches, same, smooth_net, trained
from .test_equivalence import LinearMargin

WEIGHT = torch.linspace(-1.0, 1.3, 36, dtype=torch.float64)
TIED = (WEIGHT * 3).round() / 3  # with zeros


@pytest.mark.parametrize("alpha", [2.0, 0.5])
def test_the_quantile_nought_leaves_no_pixel_out_and_it_is_fgsm_rs(alpha):
    assert same(trained("zero-grad", quantile=0.0, alpha=alpha), trained("fgsm-rs", alpha=alpha))
    assert not same(trained("zero-grad", alpha=alpha), trained("fgsm-rs", alpha=alpha))


@pytest.mark.parametrize("weight", [WEIGHT, TIED], ids=["distinct", "tied"])
@pytest.mark.parametrize("quantile", [0.0, 0.01, 1 / 35, 0.2, 0.35, 0.5, 20 / 35, 0.7, 0.999, 1.0])
def test_what_lies_under_torchs_quantile_keeps_its_random_start_and_the_rest_goes_all_the_way(weight, quantile):
    x, eps = make_batches()[0].x, EPS["linf"]
    batch = Batch(x, torch.zeros(len(x), dtype=torch.int64), torch.arange(len(x)))
    _, (start, end) = first_loss("zero-grad", LinearMargin(weight, torch.tensor(0.2)), batch, quantile=quantile)
    step = weight.where(weight.abs() >= torch.quantile(weight.abs(), quantile), 0.0).sign().view(1, 1, 6, 6)
    expected = torch.where(step == 0, start.z, (x + eps * step).clamp(0, 1))  # 2 eps reach the ball's far side
    torch.testing.assert_close(end.z, expected, rtol=0, atol=1e-12)
    assert (step == 0).sum() < 36


def test_a_quantile_beyond_all_is_refused_in_one_line():
    with pytest.raises(UsageError, match=r"zero-grad: 'quantile' lies in \[0, 1\], not at 2"):
        methods.load("zero-grad", quantile=2)


@pytest.mark.parametrize("alpha", [1.0, 0.7, 1.25])
def test_without_noise_and_with_projection_it_is_fgsm_to_the_last_bit(alpha):
    plain, noisy = trained("fgsm", alpha=alpha), trained("n-fgsm", alpha=alpha, noise=0.0, project=True)
    assert [key for key in plain if not torch.equal(plain[key], noisy[key])] == []
    assert not torch.equal(plain["0.weight"], trained("n-fgsm", alpha=alpha, project=True)["0.weight"])


def test_every_pixel_that_the_box_does_not_stop_keeps_all_of_its_noise_and_all_of_its_step():
    batch, eps = make_batches()[0], EPS["linf"]
    _, (start, end) = first_loss("n-fgsm", smooth_net(), batch, noise=3.0, alpha=1.5)
    inside = (end.z > 0) & (end.z < 1)
    assert 2.5 * eps < (start.z - batch.x).abs().max() <= 3 * eps
    assert inside.sum() > 50
    torch.testing.assert_close((end.z - start.z).abs()[inside], torch.full_like(end.z, 1.5 * eps)[inside])
