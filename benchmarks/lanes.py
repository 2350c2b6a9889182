"""What is timed: an engine, or a script's own loop, on one of two fixed settings."""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch

from benchmarks import naive
from benchmarks.naive.half import in_half
from benchmarks.naive.images import Images
from fatbench.config.request import Request
from fatbench.config.resolve import resolve
from fatbench.config.spec import RunSpec
from fatbench.runner.setup import RunContext, set_up
from fatbench.training.clock import synchronize

ENGINES: dict[str, dict[str, str]] = {
    "reference fp32": {"engine": "reference", "precision": "fp32"},
    "fast fp32": {"engine": "fast", "precision": "fp32"},
    "fast bf16": {"engine": "fast", "precision": "bf16"},
}
_ENDLESS = 10**6  # epochs: no batch may be cut short by the budget's end
_IMAGES = 6_400  # of the synthetic set, for training


class Lane(Protocol):
    """Something that trains, batch by batch."""

    @property
    def updates(self) -> int:
        """Optimiser steps that a batch is worth."""

    def warm_up(self) -> float:
        """Train on a few batches, and return how many seconds the last one took."""

    def elapsed(self, batches: int) -> float:
        """Train on so many batches, wait for the device, and return the seconds that it took."""


@dataclass(frozen=True)
class Setting:
    """A model and the data that it is timed on."""

    model: str
    flags: Mapping[str, Any] = field(default_factory=dict)

    def spec(self, method: str, engine: str, device: str) -> RunSpec:
        """Return the run whose batches are timed; one CPU thread, so that a busy second core matters little."""
        threads = {"threads": 1} if device == "cpu" else {}
        flags = {"epochs": _ENDLESS, "model": self.model, **self.flags, **ENGINES[engine], **threads}
        (spec,) = resolve(Request([method], settings=flags), device=device)
        return spec


def digits() -> Setting:
    """The fixed small model, on the embedded data."""
    return Setting("small-cnn", {"dataset": "digits"})


def cifar_shaped(folder: Path, batch_size: int) -> Setting:
    """ResNet-18 on noise of CIFAR-10's shape, written to `folder`: time does not depend on what images show."""
    path = folder / "synthetic.npz"
    draw = np.random.default_rng(0)
    x, y = draw.integers(0, 256, (_IMAGES + 500, 32, 32, 3), np.uint8), np.arange(_IMAGES + 500) % 10
    np.savez(path, x_train=x, y_train=y, x_test=x[:100], y_test=y[:100])
    return Setting("resnet18", {"dataset": str(path), "batch_size": batch_size})


class NaiveLane:
    """A script's loop; `precision` is "fp32" (TensorFloat-32 off), "tf32" or "fp16"."""

    def __init__(self, setting: Setting, method: str, device: str, precision: str) -> None:
        context = set_up(setting.spec(method, "reference fp32", device), data_dir=None, download=False)
        module = naive.load(method)
        self.name, self.precision, self.passes = f"naive {precision}", precision, sum(module.PASSES)
        self._device, spec = context.device, context.spec
        self._batches = module.train(
            in_half(context.model) if precision == "fp16" else context.model,
            module.loader(images_of(context), context.device),
            context.device,
            **{
                "eps": spec.epsilon,
                "lr": spec.training.lr,
                "momentum": spec.training.momentum,
                "weight_decay": spec.training.weight_decay,
            },
        )
        self.updates = int(spec.training.hyper.get("replays", 1))

    def warm_up(self) -> float:
        self.elapsed(1)  # the workers start
        return self.elapsed(1)

    def elapsed(self, batches: int) -> float:
        with _kernels_of_a_script(tf32=self.precision == "tf32"):
            synchronize(self._device)
            started = time.perf_counter()
            for _ in range(batches):
                next(self._batches)
            synchronize(self._device)
            return time.perf_counter() - started

    def close(self) -> None:
        """End the loop, and with it its worker processes."""
        self._batches.close()


def naive_precisions(method: str, device: str) -> list[str]:
    """Return how the method's script, if known, is timed: on a GPU without and with TensorFloat-32 and as it is."""
    if not naive.exists(method):
        return []
    if device == "cpu":
        return ["fp32"]
    return ["fp32", "tf32", *["fp16"] * naive.load(method).HALF]


def images_of(context: RunContext) -> Images:
    """Return the training images of a bench as a script finds them: in the host's memory."""
    x, y = (tensor.cpu().numpy() for tensor in (context.dataset.x_train, context.dataset.y_train))
    return Images(x, y, context.spec.training.batch_size, context.spec.training.pad, context.spec.training.flip)


@contextmanager
def _kernels_of_a_script(*, tf32: bool) -> Iterator[None]:
    """Leave cuDNN as torch has it, whatever an engine set, but for TensorFloat-32; then as before."""
    cudnn = torch.backends.cudnn
    before = cudnn.benchmark, cudnn.allow_tf32
    cudnn.benchmark, cudnn.allow_tf32 = False, tf32
    try:
        yield
    finally:
        cudnn.benchmark, cudnn.allow_tf32 = before
