"""N-FGSM's noise: what is left without it, and that nothing clips it off."""

import pytest
import torch

from . import EPS, first_loss, make_batches, smooth_net, trained


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
