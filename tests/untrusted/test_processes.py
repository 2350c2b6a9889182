"""The same in processes of their own: no traceback, no hang, nothing run, whatever python prints on its way out."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from . import specimens
from .conftest import PATIENCE
from .damage import no_files
from .test_checkpoints import TORCH

USAGE = 2
NOT_FILES = dict(no_files())


def deep(folder: Path) -> None:
    (folder / "bad.json").write_text('{"schema":' * 10**5)


def trap(folder: Path) -> None:
    (folder / "bad.pt").write_bytes(TORCH["trap"])
    (folder / "data.npz").write_bytes(specimens.arrays())


def place(kind: str, name: str) -> Callable[[Path], None]:
    return lambda folder: NOT_FILES[kind](folder / name)


CASES: dict[str, tuple[Callable[[Path], None], tuple[str, ...]]] = {
    "deep-record": (deep, ("compare", "bad.json")),
    "pipe-for-a-record": (place("fifo", "bad.json"), ("compare", "bad.json")),
    "zeros-for-a-record": (place("link-to-zeros", "bad.json"), ("show", "bad.json")),
    "pipe-for-a-preset": (place("fifo", "bad.toml"), ("run", "--preset", "bad.toml")),
    "pipe-for-a-method": (place("fifo", "bad.py"), ("run", "-m", "./bad.py")),
    "pipe-for-a-checkpoint": (place("fifo", "bad.pt"), ("eval", "bad.pt", "--model", "small-cnn", "-d", "digits")),
    "zeros-for-a-checkpoint": (place("link-to-zeros", "bad.pt"), ("eval", "bad.pt", "--model", "small-cnn")),
    "trap-for-a-checkpoint": (trap, ("eval", "bad.pt", "--model", "small-cnn", "-d", "data.npz", "-q")),
}


@pytest.mark.parametrize("name", CASES)
def test_one_line_and_the_right_exit_code(tmp_path: Path, name: str) -> None:
    prepare, arguments = CASES[name]
    prepare(tmp_path)
    command = [sys.executable, "-m", "fatbench", *arguments]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=PATIENCE)
    assert (done.returncode, done.stdout) == (USAGE, "")
    assert done.stderr.startswith("fatbench: ")
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "ran").exists()
