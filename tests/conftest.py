"""What all tests share: one thread, since two are many times slower on tensors this small."""

import os
import signal
import subprocess
from collections.abc import Iterator

import pytest

from fatbench.cli.signals import HANDLED

THREADS = int(os.environ.get("TEST_THREADS", "1"))
os.environ["OMP_NUM_THREADS"] = str(THREADS)  # before torch is imported, and for processes that tests start

import torch  # noqa: E402

from .processes import Mortal  # noqa: E402

torch.set_num_threads(THREADS)
signal.signal(signal.SIGHUP, signal.SIG_DFL)  # under nohup the suite ignores it, and so would all that it starts
subprocess.Popen = Mortal  # type: ignore[misc]  # `subprocess.run` and all that tests start by it


@pytest.fixture(autouse=True)
def _the_same_threads_and_a_fixed_seed() -> None:
    torch.set_num_threads(THREADS)
    torch.manual_seed(0)


@pytest.fixture(autouse=True)
def _signals_as_they_were() -> Iterator[None]:
    """The command line ignores them once it has said its last: in a process of its own that is the end."""
    before = {number: signal.getsignal(number) for number in HANDLED}
    yield
    for number, known in before.items():
        signal.signal(number, known)
