"""Run pytest on the simulated GPU: `python -m tests.simulated_gpu -m gpu tests/training/engine/test_gpu.py`."""

import sys

import pytest

from .training import gpu_with_a_padded_stem

if __name__ == "__main__":
    with gpu_with_a_padded_stem():
        sys.exit(pytest.main(sys.argv[1:]))
