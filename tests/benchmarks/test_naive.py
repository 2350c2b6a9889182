"""The authors' loops are honest: they train as the naive twins do, and cost what performance studies say they cost."""

import runpy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from benchmarks import naive
from benchmarks.naive.half import in_half
from benchmarks.naive.images import CroppedArrays, Images, PilImages, batches
from fatbench import methods
from fatbench.models.classifier import Classifier
from tests.methods import relu_net
from tests.training.test_passes import _ConvolutionCounter as ConvolutionCounter

REFERENCES = Path(__file__).parents[1] / "references"
CPU = torch.device("cpu")
BATCH = 6
SGD = {"lr": 1e-9, "momentum": 0.9, "weight_decay": 0.0}  # so small that every replay meets the same weights
# passes per update (performance study, "reference code, torch >= 1.13"); pgd-at: 33, and two forwards for its log;
# fast-trades has no column there: 9, and one forward for its log
AS_CODED = {
    "standard": 3,
    "fgsm": 6,
    "fgsm-rs": 6,
    "free-at": 3,
    "pgd-at": 33 + 2,
    "trades": 39,
    "fast-trades": 9 + 1,
    "bs-trades": 11,
}


def images(channels: int = 1, pad: int = 0, flip: bool = False) -> Images:
    draw = np.random.default_rng(0)
    return Images(draw.integers(0, 256, (20, channels, 6, 6), np.uint8), np.arange(20) % 5, BATCH, pad, flip)


def model(channels: int = 1) -> nn.Module:
    torch.manual_seed(0)
    return relu_net(channels, bias=False)


def one_batch(channels: int = 1) -> Any:
    """Return a loader whose dataset gives images one at a time, and whose only batch is a fixed one."""
    loader = batches(PilImages(images(channels)), images(channels), CPU, workers=0)
    torch.manual_seed(1)
    return _Fixed(loader.dataset, next(iter(loader)))


class _Fixed:
    def __init__(self, dataset: Any, batch: tuple[Tensor, Tensor]) -> None:
        self.dataset, self.batch, self.batch_size = dataset, batch, len(batch[0])

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        yield self.batch


def train(method: str, net: nn.Module, loader: Any) -> None:
    torch.manual_seed(2)
    next(naive.load(method).train(net, loader, CPU, eps=0.1, **SGD))


def test_loops_cost_what_the_study_of_the_scripts_says() -> None:
    found = {method: sum(naive.load(method).PASSES) for method in methods.names() if naive.exists(method)}
    assert found == AS_CODED


@pytest.mark.parametrize("method", AS_CODED)
def test_a_loop_costs_what_it_says(method: str) -> None:
    with ConvolutionCounter() as executed:
        train(method, model(), one_batch())
    updates = methods.load(method).hyper.get("replays", 1)
    counted = [executed.counts[key] for key in ("forward", "input_backward", "weight_backward")]
    assert counted == [passes * BATCH * updates for passes in naive.load(method).PASSES]


@pytest.mark.parametrize("method", AS_CODED)
def test_a_loop_finds_the_gradients_of_the_naive_twin(method: str) -> None:
    loop, twin, loader = model(), model(), one_batch()
    train(method, loop, loader)
    twin_train = runpy.run_path(str(REFERENCES / f"{method.replace('-', '_')}.py"))["train"]
    torch.manual_seed(2)
    twin_train(twin, [(*loader.batch, None)], eps=0.1, **SGD)
    for mine, theirs in zip(loop.parameters(), twin.parameters(), strict=True):
        assert theirs.grad is not None
        assert theirs.grad.abs().max() > 1e-4
        torch.testing.assert_close(mine.grad, theirs.grad, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("method", AS_CODED)
def test_a_loop_goes_on_over_colour_images_from_its_own_loader(method: str) -> None:
    module, data = naive.load(method), images(channels=3, pad=2, flip=True)
    loop = module.train(model(3), module.loader(data, CPU), CPU, eps=0.1, **SGD)
    for _ in range(4):  # more than the 20 images give at once
        next(loop)
    loop.close()


@pytest.mark.parametrize("kind", [PilImages, CroppedArrays])
def test_images_are_scaled_cropped_and_mirrored(kind: Any) -> None:
    plain, data = kind(images(3)), images(3)
    for row in (0, 7):
        np.testing.assert_allclose(np.asarray(plain[row][0]), data.x[row] / 255.0, atol=1e-6)
        assert plain[row][1] == data.y[row]
    torch.manual_seed(0)
    augmented = kind(images(3, pad=2, flip=True))
    moved = [row for row in range(20) if not np.allclose(np.asarray(augmented[row][0]), data.x[row] / 255.0)]
    assert len(moved) > 10
    assert {np.asarray(augmented[row][0]).shape for row in range(20)} == {(3, 6, 6)}


def test_half_precision_is_that_of_apex_o2() -> None:
    classifier = in_half(Classifier(model(3), mean=[0.5] * 3, std=[0.2] * 3))
    kinds = {
        type(m).__name__: m.weight.dtype for m in classifier.modules() if isinstance(m, (nn.Conv2d, nn.BatchNorm2d))
    }
    assert kinds == {"Conv2d": torch.float16, "BatchNorm2d": torch.float32}
    assert classifier(torch.rand(4, 3, 6, 6)).dtype == torch.float32
