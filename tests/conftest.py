"""What all tests share: one thread, since two are many times slower on tensors this small."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import signal
from collections.abc import Iterator

import pytest
import torch

torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _one_thread_and_a_fixed_seed() -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)


@pytest.fixture(autouse=True)
def _signals_as_they_were() -> Iterator[None]:
    """The command line ignores them once it has said its last: in a process of its own that is the end."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, known in before.items():
        signal.signal(number, known)
