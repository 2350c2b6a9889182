"""Networks that return more than logits train, attack and score as one that returns these alone."""

from pathlib import Path

import pytest
import torch

from fatbench.errors import InvalidRunError
from fatbench.record import Record, load
from tests.runner.test_runner import make_spec, run, weights

NETS = """
from collections import namedtuple
from dataclasses import dataclass
import torch
from torch import nn

Outputs = namedtuple("Outputs", "logits auxiliary")

@dataclass
class Output:
    loss: None
    logits: torch.Tensor

class Net(nn.Module):
    calls = 0

    def __init__(self, num_classes, in_channels, form):
        super().__init__()
        self.unused = nn.Parameter(torch.zeros(num_classes, 8))  # of an auxiliary head: first, and without a gradient
        self.body = nn.Sequential(nn.Conv2d(in_channels, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.AdaptiveAvgPool2d(2))
        self.head, self.form = nn.Linear(32, num_classes), form

    def forward(self, x):
        logits = self.head(self.body(x).flatten(1))
        return self.form(self, logits, logits[:, :8] @ self.unused.T)

def alone(num_classes, in_channels):
    return Net(num_classes, in_channels, lambda net, z, a: z)

def pair(num_classes, in_channels):
    return Net(num_classes, in_channels, lambda net, z, a: (z, a) if net.training else z)

def named(num_classes, in_channels):
    return Net(num_classes, in_channels, lambda net, z, a: Outputs(z, a) if net.training else z)

def mapping(num_classes, in_channels):
    return Net(num_classes, in_channels, lambda net, z, a: {"aux": a, "out": z})

def instance(num_classes, in_channels):
    return Net(num_classes, in_channels, lambda net, z, a: z if net.training else Output(None, z))

def changing(num_classes, in_channels):
    def form(net, z, a):
        net.calls += 1
        return z if net.calls < 9 else {"scores": z}
    return Net(num_classes, in_channels, form)

def log_softmax(num_classes, in_channels):
    return Net(num_classes, in_channels, lambda net, z, a: z.log_softmax(1))

def half(num_classes, in_channels):
    return Net(num_classes, in_channels, lambda net, z, a: z.half())
"""
NOTES = {
    "pair": " in train mode: the first element of its tuple is taken as the logits",
    "named": " in train mode: .logits of its Outputs is taken as the logits",
    "mapping": ": ['out'] of its dict is taken as the logits",
    "instance": " in eval mode: .logits of its Output is taken as the logits",
}


@pytest.fixture
def scored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    Path("nets.py").write_text(NETS)

    def run_of(factory: str, method: str = "fgsm", **settings: object) -> tuple[Record, dict[str, torch.Tensor]]:
        spec = make_spec(method, model=f"nets.py:{factory}", limit_train=300, **settings)
        record = run(spec, output=tmp_path)
        return record, weights(tmp_path, record)

    return run_of


@pytest.mark.parametrize(
    "settings", [{"engine": "reference"}, {"engine": "fast"}, {"engine": "fast", "precision": "bf16"}]
)
def test_the_logits_are_taken_and_that_is_noted(scored, settings: dict[str, str], tmp_path: Path) -> None:
    settings |= {"method": "trades", "evaluate": ["clean", "pgd-3"], "awp": 0.01, "ema": 0.9}
    truth, expected = scored("alone", **settings)
    assert truth.model_notes == []
    for factory, note in NOTES.items():
        record, found = scored(factory, **settings)
        assert load(tmp_path / f"{record.id}.json").model_notes == [f"nets.py:{factory}{note}"]
        assert all(torch.equal(found[name], value) for name, value in expected.items())
        assert {name: score.correct for name, score in record.scores.items()} == {
            name: score.correct for name, score in truth.scores.items()
        }
        assert record.engine.in_force == truth.engine.in_force
        assert record.passes == truth.passes
    assert (
        truth.passes.weight_backward == truth.steps * 128 * 4
    )  # two forwards of the loss, and again at the moved weights


def test_one_that_changes_what_it_returns_ends_the_run_in_one_line(scored) -> None:
    with pytest.raises(InvalidRunError, match=r"the network returned a dict of scores, .*: let its forward return"):
        scored("changing")


def test_log_probabilities_are_logits_and_half_precision_is_noted(scored) -> None:
    record, _ = scored("log_softmax")
    assert (record.model_notes, record.diagnostics.findings) == ([], [])
    record, _ = scored("half")
    assert record.model_notes == ["nets.py:half: its logits are float16, rounded before they become float32"]


def test_a_failure_inside_a_library_is_the_librarys(scored, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    Path("a_library").mkdir()
    Path("a_library/__init__.py").write_text("from .inner import make\n")
    Path("a_library/inner.py").write_text(f"{NETS}\nmake = changing\n".replace('{"scores": z}', "1 / 0"))
    with pytest.raises(InvalidRunError, match=r"inner\.py:\d+: ZeroDivisionError: division by zero"):
        run(make_spec("fgsm", model="a_library:make", limit_train=300), output=tmp_path)
