"""MultiGrad's vote, taken again by hand."""

import torch
import torch.nn.functional as F

from fatbench.interface import Batch

from . import EPS, first_loss, make_batches, wavy_net
from .test_equivalence import LinearMargin


def test_pixels_move_by_eps_or_not_at_all_and_only_where_every_start_says_so():
    model, batch, eps = wavy_net(), make_batches()[0], EPS["linf"]
    _, (*starts, end) = first_loss("multi-grad", model, batch)
    signs = torch.stack([gradient_sign(model, start.z, batch.y) for start in starts])
    up, down = (signs == 1).all(0), (signs == -1).all(0)
    assert len(starts) == 3
    assert 0.5 < (~up & ~down).double().mean() < 0.95  # they agree at random in a quarter of the pixels
    assert torch.equal(end.z[~up & ~down], batch.x[~up & ~down])
    torch.testing.assert_close(end.z[up], (batch.x[up] + eps).clamp(max=1), rtol=0, atol=1e-15)
    torch.testing.assert_close(end.z[down], (batch.x[down] - eps).clamp(min=0), rtol=0, atol=1e-15)
    moves = (end.z - batch.x)[(batch.x > eps) & (batch.x < 1 - eps)] / eps
    torch.testing.assert_close(moves, moves.round())
    assert moves.round().unique().tolist() == [-1, 0, 1]


def test_starts_differ_and_lie_in_ball_and_box():
    batch, eps = make_batches()[0], EPS["linf"]
    _, (*starts, _) = first_loss("multi-grad", wavy_net(), batch, starts=4)
    assert len(starts) == 4
    for start in starts:
        assert 0.9 * eps < (start.z - batch.x).abs().max() <= eps + 1e-15
        assert start.z.min() >= 0
        assert start.z.max() <= 1
    assert not torch.equal(starts[0].z, starts[1].z)


def test_on_a_linear_model_all_starts_agree_and_a_pixel_without_gradient_stays():
    x, eps = make_batches()[0].x, EPS["linf"]
    weight = torch.linspace(-1.0, 1.0, 36, dtype=torch.float64)
    weight[10] = 0.0
    batch = Batch(x, torch.zeros(len(x), dtype=torch.int64), torch.arange(len(x)))
    _, seen = first_loss("multi-grad", LinearMargin(weight, torch.tensor(0.2)), batch)
    expected = (x + eps * weight.sign().view(1, 1, 6, 6)).clamp(0, 1)
    torch.testing.assert_close(seen[-1].z, expected, rtol=0, atol=1e-12)


def gradient_sign(model, z, y):
    leaf = z.clone().requires_grad_()
    return torch.autograd.grad(F.cross_entropy(model(leaf), y), leaf)[0].sign()
