"""The tests that ask for a GPU pass on the simulated one, but for those of time."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
COMMAND = [sys.executable, "-m", "tests.simulated_gpu", "-q", "-p", "no:cacheprovider", "-m", "gpu and not slow"]


@pytest.mark.slow
def test_the_gpu_tests_pass() -> None:
    chosen = ["tests/training/engine/test_gpu.py", "-k", "not budget_of_time"]
    done = subprocess.run([*COMMAND, *chosen], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
