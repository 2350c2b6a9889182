"""The state in which a model is scored, and how everything is put back afterwards."""

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

from fatbench.models.classifier import Classifier, full_precision
from fatbench.ops import evaluating


@contextmanager
def measuring(model: Classifier) -> Iterator[None]:
    """Eval mode, float32, parameters frozen (attacks need input gradients only, and leave none); then as before.

    float32 means it: TensorFloat-32, torch's default for convolutions on recent GPUs, is off.
    """
    frozen = [parameter for parameter in model.parameters() if parameter.requires_grad]
    backends: list[Any] = [torch.backends.cudnn, torch.backends.cuda.matmul]
    tf32 = [backend.allow_tf32 for backend in backends]
    searching = torch.backends.cudnn.benchmark
    try:
        torch.backends.cudnn.benchmark = False  # attacks drop images as they fall: every size would be searched for
        for backend in backends:
            backend.allow_tf32 = False
        for parameter in frozen:
            parameter.requires_grad_(False)
        with evaluating(model), full_precision(model):
            yield
    finally:
        for parameter in frozen:
            parameter.requires_grad_(True)
        torch.backends.cudnn.benchmark = searching
        for backend, allowed in zip(backends, tf32, strict=True):
            backend.allow_tf32 = allowed


@contextmanager
def isolated_randomness(seed: int, device: torch.device) -> Iterator[None]:
    """Seed every generator with `seed`, and restore all of them afterwards: measuring must not change what follows."""
    python, numpy = random.getstate(), np.random.get_state()
    metal = torch.mps.get_rng_state() if device.type == "mps" else None  # fork_rng does not know it
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
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
