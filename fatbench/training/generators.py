"""The state of every random generator, as tensors: whatever draws goes on as if it had never been stopped."""

import random

import numpy as np
import torch
from torch import Tensor


def generators(device: torch.device) -> dict[str, Tensor]:
    """Return the states of torch's, the device's, numpy's and Python's generators, by name, in main memory."""
    _, keys, position, has_gauss, gauss = np.random.get_state(legacy=True)
    _, words, next_gauss = random.getstate()
    found = {
        "torch": torch.get_rng_state(),
        "numpy keys": torch.from_numpy(np.asarray(keys).astype(np.int64)),
        "numpy position": torch.tensor([position, has_gauss]),
        "numpy gauss": torch.tensor(gauss, dtype=torch.float64),
        "python": torch.tensor(words),
        "python gauss": torch.tensor([] if next_gauss is None else [next_gauss], dtype=torch.float64),
    }
    if device.type == "cuda":
        found["cuda"] = torch.cuda.get_rng_state(device)
    elif device.type == "mps":
        found["mps"] = torch.mps.get_rng_state()
    return found


def set_generators(states: dict[str, Tensor], device: torch.device) -> None:
    """Put the generators into the states that `generators` returned on a device of this kind.

    Raises:
        KeyError, ValueError, RuntimeError, TypeError: these are no such states.
    """
    position, has_gauss = states["numpy position"].tolist()
    keys = states["numpy keys"].numpy().astype(np.uint32)
    next_gauss = states["python gauss"].tolist() or [None]
    torch.set_rng_state(states["torch"])
    np.random.set_state(("MT19937", keys, position, has_gauss, states["numpy gauss"].item()))
    random.setstate((3, tuple(states["python"].tolist()), *next_gauss))
    if device.type == "cuda":
        torch.cuda.set_rng_state(states["cuda"], device)
    elif device.type == "mps":
        torch.mps.set_rng_state(states["mps"])
