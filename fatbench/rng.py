"""Random generators: seeding, isolation, and the state of all of them as tensors, saved and restored."""

import random

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

_WORDS = 624  # of a Mersenne twister, which is numpy's generator and Python's


def rng_state(device: torch.device) -> dict[str, Tensor]:
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


def set_rng_state(states: dict[str, Tensor], device: torch.device) -> None:
    """Put the generators into the states that `rng_state` returned on a device of this kind: all of them or none.

    Raises:
        KeyError, ValueError, RuntimeError, TypeError, OverflowError: these are no such states.
    """
    torch_state, device_state = states["torch"], states.get(device.type)
    numpy_state, python_state = _numpy_state(states), _python_state(states)
    # Into others first, which may refuse: numpy would even take a place outside its words, and read there.
    torch.Generator().set_state(torch_state)
    np.random.RandomState().set_state(numpy_state)
    random.Random().setstate(python_state)
    if device.type != "cpu":
        if device_state is None:
            raise KeyError(device.type)
        torch.Generator(device).set_state(device_state)
    torch.set_rng_state(torch_state)
    np.random.set_state(numpy_state)
    random.setstate(python_state)
    if device.type == "cuda" and device_state is not None:
        torch.cuda.set_rng_state(device_state, device)
    elif device.type == "mps" and device_state is not None:
        torch.mps.set_rng_state(device_state)


def _numpy_state(states: dict[str, Tensor]) -> tuple[str, NDArray[np.uint32], int, int, float]:
    keys, words = states["numpy keys"], states["numpy position"]
    if keys.dtype != torch.int64 or keys.shape != (_WORDS,) or words.dtype != torch.int64 or words.shape != (2,):
        raise ValueError("numpy's generator has another shape or type")
    position, has_gauss = words.tolist()
    if not (0 <= position <= _WORDS and has_gauss in (0, 1) and 0 <= int(keys.min()) <= int(keys.max()) < 2**32):
        raise ValueError("numpy's generator is in no state that it can be in")
    return "MT19937", keys.numpy().astype(np.uint32), position, has_gauss, float(states["numpy gauss"].item())


def _python_state(states: dict[str, Tensor]) -> tuple[int, tuple[int, ...], float | None]:
    words, gauss = states["python"], states["python gauss"]
    if words.dtype != torch.int64 or words.shape != (_WORDS + 1,) or gauss.dtype != torch.float64 or len(gauss) > 1:
        raise ValueError("Python's generator has another shape or type")
    if not (0 <= int(words.min()) <= int(words.max()) < 2**32 and int(words[-1]) <= _WORDS):
        raise ValueError("Python's generator is in no state that it can be in")
    return 3, tuple(words.tolist()), next(iter(gauss.tolist()), None)
