"""Adding a method touches one file of the package and one file of tests, and nothing else.

The sources are copied, the two files are added, and in processes of their own the new method is listed, checked, and
found by the contract and equivalence tests.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
METHOD = '''
import torch.nn.functional as F
from torch import Tensor, nn

from fatbench.interface import Batch, Context, Losses
from fatbench.ops import input_gradient

PASSES = {"forward": 2, "inputs": 2, "weights": 1, "batch_norm": 2}


def half_way(model: nn.Module, batch: Batch, ctx: Context, *, alpha: float = 0.5) -> Losses:
    """Half-way FGSM: one step of half the length (Nobody, NOWHERE 2026).

    Args:
        alpha: step size, in units of eps.

    Differences: none.
    """
    x, y, _ = batch

    def loss(z: Tensor) -> Tensor:
        return F.cross_entropy(model(z), y, reduction="sum")

    x_adv = ctx.ball.step(x, input_gradient(loss, x), alpha, x)
    yield F.cross_entropy(model(x_adv), y, label_smoothing=ctx.smoothing)
'''
TWIN = '''
"""Naive twin of `half-way`."""

import torch
import torch.nn.functional as F

SETTINGS = {"alpha": 0.7}
PASSES = (2, 2, 1)


def train(model, batches, *, eps, lr, momentum, weight_decay, alpha=0.5):
    opt = torch.optim.SGD(model.parameters(), lr=lr, momentum=momentum, weight_decay=weight_decay)
    for x, y, _ in batches:
        x_adv = x.clone().requires_grad_()
        F.cross_entropy(model(x_adv), y).backward()
        x_adv = (x + alpha * eps * x_adv.grad.sign()).clamp(0, 1)
        loss = F.cross_entropy(model(x_adv), y)
        opt.zero_grad()
        loss.backward()
        opt.step()
'''


@pytest.fixture
def sources(tmp_path: Path) -> Path:
    """A copy of the package and of what tests methods, with one method and its twin added."""
    for part in ("fatbench", "tests/methods", "tests/references"):
        shutil.copytree(ROOT / part, tmp_path / part, ignore=shutil.ignore_patterns("__pycache__"))
    for file in (
        "pyproject.toml",
        "tests/__init__.py",
        "tests/conftest.py",
        "tests/processes.py",
        "tests/training/test_passes.py",
    ):
        (tmp_path / file).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / file, tmp_path / file)
    shutil.copy(ROOT / "tests/training/__init__.py", tmp_path / "tests/training/__init__.py")
    (tmp_path / "fatbench/methods/half_way.py").write_text(METHOD.lstrip())
    (tmp_path / "tests/references/half_way.py").write_text(TWIN.lstrip())
    return tmp_path


def python(sources: Path, *arguments: str) -> str:
    environment = {**os.environ, "PYTHONPATH": str(sources), "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, "-P", *arguments]
    done = subprocess.run(command, cwd=sources, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_one_file_of_the_package_and_one_of_tests_is_all(sources: Path) -> None:
    assert "half-way" in python(sources, "-m", "fatbench", "list", "methods")
    assert "FAILED" not in python(sources, "-m", "fatbench", "check-method", "half-way")
    tests = [
        f"tests/{file}.py" for file in ("methods/test_equivalence", "methods/test_contract", "training/test_passes")
    ]
    only = ["-k", "half_way or half-way", "-p", "no:cacheprovider", "-o", "addopts=-v"]
    counted = python(sources, "-m", "pytest", *tests, *only)
    assert "test_three_momentum_batches_leave_the_state_of_the_naive_twin[half-way-linf-changed] PASSED" in counted
    assert "test_the_source_reaches_for_nothing_but_its_arguments[half-way] PASSED" in counted
    assert "test_passes_are_optimal_and_equal_the_convolutions_executed[half-way] PASSED" in counted
    assert "FAILED" not in counted
