"""Peak memory is the training's: without cuDNN's search before, the trial of a graph, and validation probes."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import torch

from fatbench.environment import PeakMemory
from fatbench.runner import train
from fatbench.training import preparation
from fatbench.training.engine import capture
from tests.runner.test_runner import run

from .test_runs import make_spec
from .training import gpu_with_a_padded_stem


class Memory:
    """What torch counts, moved by hand."""

    def __init__(self) -> None:
        self.peak = self.cached = self.reserved = 0

    def takes(self, size: int) -> None:
        """Allocate for a moment; what is freed stays in the cache."""
        self.peak, self.cached = max(self.peak, size), max(self.cached, size)
        self.reserved = max(self.reserved, self.cached)

    def reset(self, *_: Any) -> None:
        self.peak, self.reserved = 0, self.cached

    def release(self) -> None:
        self.cached = 0


@pytest.fixture
def memory() -> Iterator[Memory]:
    found = Memory()
    answers = {
        "max_memory_allocated": lambda *_: found.peak,
        "max_memory_reserved": lambda *_: found.reserved,
        "reset_peak_memory_stats": found.reset,
        "empty_cache": found.release,
    }
    with gpu_with_a_padded_stem(), mock.patch.multiple(torch.cuda, **answers):
        yield found


def test_a_pause_does_not_count(memory: Memory) -> None:
    peak = PeakMemory(torch.device("cuda"))
    memory.takes(3)
    for size in (9, 7):
        with peak.paused():
            memory.takes(size)
    memory.takes(5)
    assert peak.found == {"allocated": 5, "reserved": 3}
    with peak.paused():
        memory.takes(9)
    assert peak.found == {"allocated": 5, "reserved": 3}
    peak.restart()
    memory.takes(4)
    assert peak.found == {"allocated": 4, "reserved": 4}


def test_on_a_cpu_nothing_is_known() -> None:
    peak = PeakMemory(torch.device("cpu"))
    with peak.paused():
        pass
    assert peak.found == {}


def test_a_records_peak_is_that_of_training(memory: Memory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def taking(size: int, where: Any, name: str) -> None:
        usual = getattr(where, name)

        def measured(*arguments: Any, **options: Any) -> Any:
            memory.takes(size)
            return usual(*arguments, **options)

        monkeypatch.setattr(where, name, measured)

    taking(100, train, "_warm_up")
    taking(50, capture, "record_cuda_graph")
    taking(90, preparation, "graph_mismatch")
    taking(80, train, "_probe")
    record = run(make_spec("fgsm-rs", epochs=2, samples="6"), output=tmp_path)
    assert record.memory["training_allocated"] == record.memory["training_reserved"] == 50
