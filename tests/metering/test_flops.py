"""Counted operations against operations worked out by hand: two per multiply-add, in each direction that runs."""

import pytest
import torch
from torch.nn import functional as F

from fatbench import methods, models
from fatbench.metering.flops import counted_flops
from fatbench.ops import input_gradient
from fatbench.training.passes import count_passes
from tests.methods import context_of_six, relu_net, six_images

IMAGES = 6
# Multiply-adds per image of the network below: 36 pixels, 3x3 windows, channels in and out; then the linear layer.
FIRST, REST = 36 * 9 * 1 * 4, 36 * 9 * 4 * 8 + 8 * 36 * 5
NO_CROP = FIRST + REST


def resnet18_multiply_adds() -> int:
    """ResNet-18 for 32x32 images, layer by layer: a stem, and four stages of two blocks of two convolutions."""
    total = 3 * 64 * 9 * 32**2 + 4 * 64 * 64 * 9 * 32**2  # the first stage keeps size and channels
    for channels, side in ((128, 16), (256, 8), (512, 4)):
        into, within = channels // 2 * channels, channels * channels
        total += (9 * into + 3 * 9 * within + into) * side**2  # the last is the shortcut's
    return total + 512 * 10


def test_resnet18_is_the_literatures() -> None:
    model = models.build("resnet18", num_classes=10, shape=(3, 32, 32), mean=[0.5] * 3, std=[0.25] * 3)
    with counted_flops() as count:
        model(torch.rand(1, 3, 32, 32))
    assert resnet18_multiply_adds() == pytest.approx(0.5554e9, rel=1e-4)
    assert count.total == 2 * resnet18_multiply_adds()


def test_nothing_is_known_before_the_end_and_nothing_counted_after_it() -> None:
    with counted_flops() as count:
        relu_net(width=8)(six_images().x)
        assert count.total == 0
    relu_net(width=8)(six_images().x)
    assert count.total == 2 * IMAGES * NO_CROP


@pytest.mark.parametrize(
    ("name", "multiply_adds"),
    [
        ("standard", NO_CROP + REST + NO_CROP),  # forward, to the inputs of all layers but the first, to all weights
        (
            "fgsm",
            (NO_CROP + NO_CROP) + (NO_CROP + REST + NO_CROP),
        ),  # the attack prunes weight gradients, not the image's
        ("pgd-at", 10 * (NO_CROP + NO_CROP) + (NO_CROP + REST + NO_CROP)),
    ],
)
def test_a_batch_costs_what_runs(name: str, multiply_adds: int) -> None:
    with counted_flops() as count:
        count_passes(relu_net(width=8), methods.load(name), six_images(), context_of_six())
    assert count.total == 2 * IMAGES * multiply_adds


@pytest.mark.parametrize("name", methods.names())
def test_counting_changes_no_passes(name: str) -> None:
    model, method = relu_net(width=8), methods.load(name)
    alone = count_passes(model, method, six_images(), context_of_six())
    with counted_flops():
        watched = count_passes(model, method, six_images(), context_of_six())
    assert watched == alone


def test_an_attack_differentiates_at_its_own_leaf_while_counted() -> None:
    model, (x, y, _) = relu_net(width=8), six_images()
    expected = input_gradient(lambda z: F.cross_entropy(model(z), y), x)
    with counted_flops():
        assert torch.equal(input_gradient(lambda z: F.cross_entropy(model(z), y), x), expected)


def test_bfloat16_counts_the_same() -> None:
    with counted_flops() as count, torch.autocast("cpu", torch.bfloat16):
        relu_net(width=8)(six_images().x).float().sum().backward()
    assert count.total == 2 * IMAGES * (NO_CROP + REST + NO_CROP)
