"""The mode in which a model is evaluated, restored afterwards."""

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

import numpy as np
import torch

from fatbench.models.classifier import Classifier, full_precision
from fatbench.ops import evaluating


@contextmanager
def eval_mode(model: Classifier) -> Iterator[None]:
    """Eval mode, float32, parameters frozen (attacks need input gradients only, and leave none); then as before.

    float32 means it: TensorFloat-32, torch's default for convolutions on recent GPUs, is off.
    """
    frozen = [parameter for parameter in model.parameters() if parameter.requires_grad]
    searching = torch.backends.cudnn.benchmark
    try:
        torch.backends.cudnn.benchmark = False  # attacks drop images as they fall: every size would be searched for
        for parameter in frozen:
            parameter.requires_grad_(False)
        with float32_arithmetic("ieee"), evaluating(model), full_precision(model):
            yield
    finally:
        for parameter in frozen:
            parameter.requires_grad_(True)
        torch.backends.cudnn.benchmark = searching


@contextmanager
def float32_arithmetic(precision: Literal["ieee", "tf32"]) -> Iterator[None]:
    """Let a GPU's float32 convolutions and matrix products be such inside; then as before.

    By torch's names of 2.9 and later: the older `allow_tf32` cannot be read once a user's own code has set one of them.
    """
    cudnn: Any = torch.backends.cudnn  # whose `conv` and `rnn` its stub does not know
    backends: list[Any] = [cudnn.conv, cudnn.rnn, torch.backends.cuda.matmul]
    before = [backend.fp32_precision for backend in backends]
    try:
        for backend in backends:
            backend.fp32_precision = precision
        yield
    finally:
        for backend, usual in zip(backends, before, strict=True):
            backend.fp32_precision = usual


@contextmanager
def isolated_rng(seed: int, device: torch.device) -> Iterator[None]:
    """Seed every generator with `seed`, and restore all of them afterwards: evaluation must not change what follows."""
    python, numpy = random.getstate(), np.random.get_state()
    metal = torch.mps.get_rng_state() if device.type == "mps" else None  # fork_rng does not know it
    # Seeding seeds every GPU, once this process uses one; before, asking for their states would make it do so.
    used = device.type == "cuda" or torch.cuda.is_initialized()  # type: ignore[no-untyped-call]
    with torch.random.fork_rng(devices=range(torch.cuda.device_count()) if used else []):
        seed_everything(seed)
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(numpy)
            if metal is not None:
                torch.mps.set_rng_state(metal)


def seed_everything(seed: int) -> None:
    """Seed torch on every device, numpy and Python: a user's own method or model may draw from any of them."""
    torch.manual_seed(seed)
    np.random.seed(seed)
    random.seed(seed)
