from collections.abc import Iterator

import pytest

from benchmarks.shortened import shortened
from tests.evaluation.autoattack.subjects import Subject, trained


@pytest.fixture(scope="session")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Subject:
    """A trained model and forty images."""
    return trained(tmp_path_factory.mktemp("trained"), images=40)


@pytest.fixture
def short() -> Iterator[None]:
    """Attacks of a twentieth of their length."""
    with shortened(0.05):
        yield
