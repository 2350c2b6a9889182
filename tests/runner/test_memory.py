"""Training that runs out of memory says which batch size would fit, after having tried it."""

import gc
from collections.abc import Callable
from pathlib import Path

import pytest

from fatbench.runner import memory
from fatbench.runner.setup import RunContext
from fatbench.training.loop import Training
from tests.cli.conftest import Said, fatbench

__all__ = ["fatbench"]
METHOD = """
import torch
import torch.nn.functional as F

def greedy(model, batch, ctx, *, room: int = 30):
    \"\"\"Greedy: has room for so many images (nobody, 2026).

    Args:
        room: images.
    Passes: 1 forward, 1 backward.
    \"\"\"
    x, y, _ = batch
    if len(x) > room:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20 GiB")
    yield F.cross_entropy(model(x), y)
"""
RESOURCES = 6


@pytest.mark.parametrize("engine", ["reference", "fast"])
@pytest.mark.parametrize(
    ("room", "remedy"),
    [(127, "64 fits"), (64, "64 fits"), (30, "16 fits"), (2, "2 fits"), (1, "no smaller one fits either")],
)
def test_a_batch_size_that_fits_is_named(
    fatbench: Callable[..., Said], tmp_path: Path, room: int, remedy: str, engine: str
) -> None:
    (tmp_path / "greedy.py").write_text(METHOD)
    run = ("run", "-m", "./greedy.py", "--set", f"room={room}", "--epochs", 1, "--batch-size", 128, "--quiet")
    said = fatbench(*run, "--eval", "none", "--engine", engine)
    assert said.code == RESOURCES
    assert f"out of memory training small-cnn with --batch-size 128: {remedy}" in said.complaint


def test_what_is_named_does_fit(fatbench: Callable[..., Said], tmp_path: Path) -> None:
    (tmp_path / "greedy.py").write_text(METHOD)
    run = ("run", "-m", "./greedy.py", "--epochs", 1, "--eval", "none", "--calibration", 0, "--quiet")
    assert "16 fits here" in fatbench(*run, "--batch-size", 128).complaint
    assert fatbench(*run, "--batch-size", 16).code == 0


def test_what_was_trained_is_gone_when_sizes_are_tried(
    fatbench: Callable[..., Said], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    alive: list[int] = []

    def tried(_: RunContext) -> None:
        gc.collect()
        alive.append(sum(type(thing) is Training for thing in gc.get_objects()))

    monkeypatch.setattr(memory, "fitting_batch_size", tried)
    fits_at_first = METHOD.replace(
        "if len(x) > room:", "ctx.buffers['n'] = n = ctx.buffers.get('n', 0) + 1\n    if n > 5:"
    )
    (tmp_path / "greedy.py").write_text(fits_at_first)
    run = ("run", "-m", "./greedy.py", "--epochs", 1, "--batch-size", 128, "--quiet", "--engine", "reference")
    said = fatbench(*run, "--eval", "none")
    assert "out of memory training" in said.complaint
    assert alive == [0]
