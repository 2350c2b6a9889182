"""The balls: what lands where, for any finite input, against pixelwise and Euclidean definitions written out here."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fatbench.threat import L2, Linf, make_ball

SHAPE = (2, 1, 2, 2)
RADII = st.floats(1 / 255, 8.0)
SIZES = st.floats(0.0, 4.0)
TOLERANCE = 1e-6  # of float32 arithmetic on pixels
any_ball = pytest.mark.parametrize("make", [Linf, L2])
for_any_input = settings(deadline=None, derandomize=True)


def tensors(low, high):
    number = st.floats(low, high, width=32, allow_nan=False, allow_infinity=False)
    return st.lists(number, min_size=8, max_size=8).map(lambda numbers: torch.tensor(numbers).view(SHAPE))


IMAGES = tensors(0.0, 1.0)
ANYTHING = tensors(None, None)  # up to the largest float32


def lengths(v):
    return [math.sqrt(sum(number**2 for number in image.flatten().tolist())) for image in v.double()]


def assert_in_ball_and_box(z, x, ball):
    assert z.shape == x.shape
    assert z.dtype == x.dtype
    assert z.min() >= 0  # false for nan too
    assert z.max() <= 1
    assert_in_ball(z, x, ball)


def assert_in_ball(z, x, ball):
    furthest = (z - x).abs().max().item() if isinstance(ball, Linf) else max(lengths(z - x))
    assert furthest <= ball.eps * (1 + TOLERANCE) + TOLERANCE


@any_ball
@for_any_input
@given(x=IMAGES, z=ANYTHING, eps=RADII)
def test_a_projection_lands_in_ball_and_box(make, x, z, eps):
    assert_in_ball_and_box(make(eps).project(z, x), x, make(eps))


@any_ball
@for_any_input
@given(x=IMAGES, z=ANYTHING, gradient=ANYTHING, size=SIZES, eps=RADII)
def test_a_step_lands_in_ball_and_box(make, x, z, gradient, size, eps):
    assert_in_ball_and_box(make(eps).step(z, gradient, size, x), x, make(eps))


@any_ball
@for_any_input
@given(x=IMAGES, eps=RADII, radius=st.floats(0.0, 2.0), seed=st.integers(0, 1000))
def test_a_sample_lies_in_the_ball_of_its_radius(make, x, eps, radius, seed):
    torch.manual_seed(seed)
    noise = make(eps).sample(x, radius)
    assert noise.isfinite().all()
    assert noise.dtype == x.dtype
    assert_in_ball(x + noise, x, make(radius * eps))
    assert_in_ball_and_box(make(eps).project(x + noise, x), x, make(eps))


@any_ball
@for_any_input
@given(x=IMAGES, z=ANYTHING, size=SIZES, eps=RADII)
def test_a_zero_gradient_moves_nothing(make, x, z, size, eps):
    ball = make(eps)
    start = ball.project(z, x)
    torch.testing.assert_close(ball.step(start, torch.zeros_like(x), size, x), start, rtol=0, atol=TOLERANCE)


@any_ball
def test_a_move_is_a_step_that_nothing_holds_back(make):
    x, gradient = image(0.4, 0.5), image(3.0, -4.0)
    ball, direction = make(0.1), image(1.0, -1.0) if make is Linf else image(0.6, -0.8)
    torch.testing.assert_close(ball.move(x, gradient, 0.5), ball.step(x, gradient, 0.5, x))
    torch.testing.assert_close(ball.move(x, gradient, 30.0), x + 3.0 * direction)


@any_ball
@for_any_input
@given(x=IMAGES, z=ANYTHING, eps=RADII)
def test_a_point_of_ball_and_box_stays_where_it_is(make, x, z, eps):
    once = make(eps).project(z, x)
    torch.testing.assert_close(make(eps).project(once, x), once, rtol=0, atol=TOLERANCE)


@for_any_input
@given(x=IMAGES, z=ANYTHING, eps=RADII)
def test_the_linf_projection_is_the_nearest_point_pixel_by_pixel(x, z, eps):
    nearest = [
        min(max(wanted, max(0.0, pixel - eps)), min(1.0, pixel + eps))
        for wanted, pixel in zip(z.flatten().tolist(), x.flatten().tolist(), strict=True)
    ]
    torch.testing.assert_close(Linf(eps).project(z, x), torch.tensor(nearest).view(SHAPE), rtol=0, atol=TOLERANCE)


@for_any_input
@given(x=IMAGES, z=tensors(-3.0, 4.0), eps=RADII)
def test_the_l2_projection_clips_to_the_box_then_shrinks_towards_the_image(x, z, eps):
    expected = []
    for image, wanted in zip(x.double().flatten(1).tolist(), z.double().flatten(1).tolist(), strict=True):
        offset = [min(max(to, 0.0), 1.0) - pixel for pixel, to in zip(image, wanted, strict=True)]
        length = math.sqrt(sum(number**2 for number in offset))
        shrink = eps / length if length > eps else 1.0
        expected += [pixel + shrink * number for pixel, number in zip(image, offset, strict=True)]
    torch.testing.assert_close(L2(eps).project(z, x), torch.tensor(expected).view(SHAPE), rtol=0, atol=TOLERANCE)


def image(*pixels):
    return torch.tensor(pixels, dtype=torch.float64).view(1, 1, 1, -1)


def test_the_l2_projection_clips_first_so_that_the_ball_is_spent_on_pixels_that_can_move():
    x, z = image(0.1, 0.5), image(-2.9, 0.9)
    torch.testing.assert_close(L2(0.5).project(z, x), image(0.0, 0.9))  # shrinking first would give (0, 0.57)


def test_a_linf_step_moves_every_pixel_by_size_eps_along_the_sign():
    x, gradient = image(0.5, 0.5, 0.5, 0.0, 1.0), image(1e-30, -7.0, 0.0, -1.0, 1.0)
    torch.testing.assert_close(Linf(0.1).step(x, gradient, 0.5, x), image(0.55, 0.45, 0.5, 0.0, 1.0))
    torch.testing.assert_close(Linf(0.1).step(x, gradient, 3.0, x), image(0.6, 0.4, 0.5, 0.0, 1.0))


def test_an_l2_step_moves_each_image_by_size_eps_along_its_own_gradient():
    x = torch.cat([image(0.5, 0.5), image(0.4, 0.5)])
    gradient = torch.cat([image(3e-6, 4e-6), image(0.0, -9e6)])
    moved = torch.cat([image(0.53, 0.54), image(0.4, 0.45)])
    torch.testing.assert_close(L2(0.1).step(x, gradient, 0.5, x), moved)
    moved = torch.cat([image(0.56, 0.58), image(0.4, 0.4)])
    torch.testing.assert_close(L2(0.1).step(x, gradient, 3.0, x), moved)


@pytest.mark.parametrize("scale", [1e-37, 1e-25, 1e-12, 1.0, 1e20, 1e37])
def test_an_l2_step_is_as_long_for_a_faint_or_huge_gradient(scale):
    x = torch.full((3, 1, 4, 4), 0.5)
    gradient = torch.randn(3, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    moved = L2(0.1).step(x, gradient * scale, 0.5, x) - x
    expected = 0.05 * gradient / gradient.flatten(1).norm(dim=1).view(-1, 1, 1, 1)
    assert torch.allclose(moved, expected, atol=1e-6)


def test_linf_noise_is_uniform_in_every_pixel():
    torch.manual_seed(0)
    noise = Linf(0.1).sample(torch.zeros(1000, 1, 4, 4), 2.0).flatten() / 0.2
    quartiles = torch.quantile(noise, torch.tensor([0.0, 0.25, 0.5, 0.75, 1.0]))
    torch.testing.assert_close(quartiles, torch.tensor([-1.0, -0.5, 0.0, 0.5, 1.0]), rtol=0, atol=0.03)


def test_l2_noise_has_uniform_lengths_and_directions():
    torch.manual_seed(0)
    noise = L2(0.1).sample(torch.zeros(4000, 1, 1, 2), 2.0).flatten(1)
    deciles = torch.quantile(noise.norm(dim=1) / 0.2, torch.linspace(0, 1, 11))
    torch.testing.assert_close(deciles, torch.linspace(0, 1, 11), rtol=0, atol=0.03)
    angles = torch.atan2(noise[:, 1], noise[:, 0]) / math.pi
    deciles = torch.quantile(angles, torch.linspace(0, 1, 11))
    torch.testing.assert_close(deciles, torch.linspace(-1, 1, 11), rtol=0, atol=0.06)


def test_distances_are_those_of_the_norm_image_by_image():
    x = torch.cat([image(0.5, 0.5), image(0.0, 1.0)])
    z = torch.cat([image(0.8, 0.1), image(0.0, 0.25)])
    torch.testing.assert_close(Linf(1.0).distance(z, x), torch.tensor([0.4, 0.75], dtype=torch.float64))
    torch.testing.assert_close(L2(1.0).distance(z, x), torch.tensor([0.5, 0.75], dtype=torch.float64))


@any_ball
def test_arguments_are_left_as_they_were_and_nothing_is_differentiated_through(make):
    x, z, gradient = image(0.0, 0.4), image(-1.0, 0.6).requires_grad_(), image(1.0, 2.0)
    ball = make(0.1)
    results = [ball.project(z, x), ball.move(z, gradient, 1.0), ball.step(z, gradient, 1.0, x)]
    results += [ball.sample(z), ball.distance(z, x)]
    assert [result.requires_grad for result in results] == [False] * 5
    assert torch.equal(x, image(0.0, 0.4))
    assert torch.equal(z, image(-1.0, 0.6))
    assert torch.equal(gradient, image(1.0, 2.0))


def test_the_ball_is_made_by_the_norms_name():
    assert make_ball("linf", 0.1) == Linf(0.1)
    assert make_ball("l2", 0.1) == L2(0.1)
