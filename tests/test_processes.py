"""What tests start ends with them, however they end."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.processes import PATIENCE, end, fatbench, fork

ROOT = Path(__file__).parents[1]
TESTS = """
import subprocess, sys, time
from pathlib import Path

from tests.processes import fork

SLEEP = "import os, sys, time; open(sys.argv[1], 'w').write(str(os.getpid())); time.sleep(600)"


def sleep(file):
    Path(file).write_text(str(__import__("os").getpid()))
    time.sleep(600)


def test_that_is_killed():
    fork(sleep, "forked", cwd=Path.cwd(), log=Path("log"))
    subprocess.run([sys.executable, "-c", SLEEP, "started"])
"""


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.skipif(sys.platform != "linux", reason="the system kills them")
@pytest.mark.parametrize("number", [signal.SIGKILL, pytest.param(signal.SIGTERM, marks=pytest.mark.slow)])
def test_no_process_outlives_tests_that_are_killed(tmp_path: Path, number: int) -> None:
    for name in ("conftest", "processes", "__init__"):
        (tmp_path / "tests").mkdir(exist_ok=True)
        (tmp_path / "tests" / f"{name}.py").write_text((ROOT / "tests" / f"{name}.py").read_text())
    (tmp_path / "tests" / "test_killed.py").write_text(TESTS)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/test_killed.py"]
    path = os.pathsep.join([str(tmp_path), str(ROOT)])
    with subprocess.Popen(command, cwd=tmp_path, env={**os.environ, "PYTHONPATH": path}) as process:
        files = [tmp_path / "forked", tmp_path / "started"]
        pids = [_content(file, process) for file in files]
        assert all(map(is_alive, pids))
        process.send_signal(number)
    deadline = time.monotonic() + PATIENCE
    while any(map(is_alive, pids)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(map(is_alive, pids))


def _content(file: Path, process: subprocess.Popen[bytes]) -> int:
    while not (file.exists() and file.read_text()):
        assert process.poll() is None
        time.sleep(0.05)
    return int(file.read_text())


def test_a_forked_command_has_its_exit_code_and_its_lines(tmp_path: Path) -> None:
    log = tmp_path / "log"
    assert end(fork(fatbench, "show", "nobodys", cwd=tmp_path, log=log), log).code == 2
    done = end(fork(fatbench, "list", "models", cwd=tmp_path, log=log), log)
    assert done.code == 0
    assert "resnet18" in done.said
