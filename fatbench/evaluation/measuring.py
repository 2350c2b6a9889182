"""The state in which a model is scored, and how everything is put back afterwards."""

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch

from fatbench.models.classifier import Classifier, full_precision
from fatbench.ops import evaluating


@contextmanager
def measuring(model: Classifier) -> Iterator[None]:
    """Eval mode, float32, parameters frozen (attacks need input gradients only, and leave none); then as before."""
    frozen = [parameter for parameter in model.parameters() if parameter.requires_grad]
    try:
        for parameter in frozen:
            parameter.requires_grad_(False)
        with evaluating(model), full_precision(model):
            yield
    finally:
        for parameter in frozen:
            parameter.requires_grad_(True)


@contextmanager
def isolated_randomness(seed: int, device: torch.device) -> Iterator[None]:
    """Seed every generator with `seed`, and restore all of them afterwards: measuring must not change what follows."""
    python, numpy = random.getstate(), np.random.get_state()
    devices = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(seed)
        np.random.seed(seed)
        random.seed(seed)
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(numpy)
