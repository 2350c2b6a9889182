"""Methods and models that do what the fast engine cannot see, or not replay: results stay the reference's."""

from pathlib import Path

import pytest

from fatbench.record import Record
from tests.runner.test_runner import run

from .test_runner import make_spec

NET = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self, num_classes):
        super().__init__()
        self.conv, self.bn = nn.Conv2d(1, 8, 3, padding=1), nn.BatchNorm2d(8)
        self.head = nn.Linear(512, num_classes)
        self.register_buffer("mean_of_maps", torch.ones(8))

    def forward(self, x):
        maps = self.bn(self.conv(x))
        if self.training:
            self.mean_of_maps = 0.9 * self.mean_of_maps + 0.1 * maps.detach().mean((0, 2, 3)).abs()
        return self.head(torch.relu(maps / (0.1 + self.mean_of_maps.view(1, -1, 1, 1))).flatten(1))
"""

METHOD = """
import torch
import torch.nn.functional as F
from fatbench.ops import evaluating, input_gradient

def perturbed(model, batch, ctx):
    x, y, _ = batch
    weights = [weight for weight in model.parameters() if weight.ndim > 1]
    for weight in weights:
        weight.data.mul_(1.5)
    with evaluating(model):
        gradient = input_gradient(lambda z: F.cross_entropy(model(z), y, reduction="sum"), x)
    for weight in weights:
        weight.data.div_(1.5)
    yield F.cross_entropy(model(ctx.ball.step(x, gradient, 1.0, x)), y)
"""


def both(tmp_path: Path, method: str, **flags: object) -> tuple[Record, Record]:
    options = {"output": tmp_path, "calibration_seconds": 0}
    reference, fast = (run(make_spec(method, engine=engine, **flags), **options) for engine in ("reference", "fast"))
    return reference, fast


def test_a_buffer_that_is_replaced_begins_as_it_was(tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text(NET)
    reference, fast = both(tmp_path, "standard", model=f"{tmp_path / 'net.py'}:Net")
    assert fast.history[0].loss == pytest.approx(reference.history[0].loss, rel=1e-4)
    assert abs(fast.scores["clean"].correct - reference.scores["clean"].correct) <= 2


def test_weights_changed_through_data_are_not_taken_for_unchanged(tmp_path: Path) -> None:
    (tmp_path / "perturbed.py").write_text(METHOD)
    reference, fast = both(tmp_path, str(tmp_path / "perturbed.py"))
    assert fast.engine is not None
    assert "unseen" in fast.engine.notes["fold"]
    assert fast.history[0].loss == pytest.approx(reference.history[0].loss, rel=1e-3)
