import numpy as np
import pytest

from fatbench import data
from fatbench.errors import FatbenchError


@pytest.fixture(scope="session")
def digits():
    return data.load("digits", seed=0, data_dir=None)


@pytest.fixture(autouse=True)
def _offline(monkeypatch):
    def refuse(*_, **__):
        raise OSError("a test reached for the network")

    monkeypatch.setattr("socket.socket.connect", refuse)


@pytest.fixture
def failure():
    """A function that loads what must fail, and returns the one line that it fails with."""

    def _failure(dataset, kind=FatbenchError, data_dir=None, **arguments):
        with pytest.raises(kind) as caught:
            data.load(str(dataset), seed=0, data_dir=data_dir, **arguments)
        assert "\n" not in str(caught.value)
        return str(caught.value)

    return _failure


@pytest.fixture
def arrays():
    """A small valid dataset: 3 classes, 60 training and 30 test images of 3x6x5."""
    rng = np.random.default_rng(0)
    return {
        "x_train": rng.integers(0, 256, (60, 3, 6, 5), dtype=np.uint8),
        "y_train": np.arange(60) % 3,
        "x_test": rng.integers(0, 256, (30, 3, 6, 5), dtype=np.uint8),
        "y_test": np.arange(30) % 3,
    }
