"""Comparing with another commit, in a repository made for it."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import check

ROOT = Path(__file__).parents[2]
QUICK = ["--method", "standard", "--seconds", "2"]


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A repository whose only commit is the code as it is."""
    for folder in ("fatbench", "benchmarks"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__"))
    git = ["git", "-C", str(tmp_path), "-c", "user.name=test", "-c", "user.email=test@localhost"]
    for command in (["init", "--quiet"], ["add", "--all"], ["commit", "--quiet", "--message=all"]):
        subprocess.run([*git, *command], check=True)
    return tmp_path


def against(repository: Path, base: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "benchmarks.against", base, *QUICK]
    return subprocess.run(command, cwd=repository, capture_output=True, text=True)


def test_a_commit_that_there_is_not_is_no_baseline(repository: Path) -> None:
    done = against(repository, "0" * 40)
    assert done.returncode == check.NO_BASELINE
    assert f"no baseline: {'0' * 40} cannot be measured" in done.stderr


@pytest.mark.slow
@pytest.mark.serial
def test_each_commit_is_measured_with_its_own_package(repository: Path) -> None:
    assert against(repository, "HEAD").returncode == check.OK
    method = repository / "fatbench" / "methods" / "standard.py"
    yielded = "yield F.cross_entropy("
    assert yielded in method.read_text()
    method.write_text(method.read_text().replace(yielded, f"model(batch.x), model(batch.x)\n    {yielded}"))
    assert against(repository, "HEAD").returncode == check.SLOWER
