"""Processes that tests start: none outlives the tests, and those that need all packages begin with them imported."""

import ctypes
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

PATIENCE = 300  # seconds; what ends in a few has a loaded machine's time to do so
_PR_SET_PDEATHSIG = 1
_IMPORTED = [
    "torch._dynamo",
    "torchvision",
    "scipy.stats",
    "sklearn.datasets",
    "pandas",
    "fatbench.cli",
    "fatbench.runner",
]
_libc = ctypes.CDLL(None)
_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload(_IMPORTED)


def begin() -> None:
    """Let this process heed Ctrl-C, and be killed when the one that started it ends, however it does (on Linux)."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # a suite that a shell has put into the background ignores it
    if sys.platform == "linux":
        _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


class Mortal(subprocess.Popen):  # type: ignore[type-arg]
    """A process that dies with the tests, unless it is told otherwise."""

    def __init__(self, *args: Any, **options: Any) -> None:
        options.setdefault("preexec_fn", begin)
        super().__init__(*args, **options)


@dataclass(frozen=True)
class Ended:
    """How a process ended: its exit code (negative: the signal), and all that it printed."""

    code: int
    said: str


def fork(function: Callable[..., object], *arguments: object, cwd: Path, log: Path) -> ForkServerProcess:
    """Start `function(*arguments)` in a process of its own, forked from a server that has imported everything.

    Args:
        cwd: where it runs.
        log: file that takes what it prints.
    """
    process = _context.Process(target=_begin, args=(function, arguments, cwd, log))
    process.start()
    return process


def start_server(folder: Path) -> None:
    """Have the server import everything now, for whoever is to time a process."""
    end(fork(str, cwd=folder, log=folder / "server.log"), folder / "server.log")


def end(process: ForkServerProcess, log: Path) -> Ended:
    """Wait for a process, and return how it ended; kill it if it never would."""
    process.join(PATIENCE)
    if process.exitcode is None:
        process.kill()
        process.join()
    assert process.exitcode is not None
    return Ended(process.exitcode, log.read_text())


def fatbench(*arguments: object) -> None:
    """Be `fatbench ARGUMENTS`."""
    from fatbench.cli import main

    sys.argv = ["fatbench", *map(str, arguments)]
    main()


def _begin(function: Callable[..., object], arguments: tuple[object, ...], cwd: Path, log: Path) -> None:
    threading.Thread(target=_die_with_tests, daemon=True).start()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    for place in (1, 2):
        os.dup2(file, place)
    os.chdir(cwd)
    import torch

    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    function(*arguments)


def _die_with_tests() -> None:
    """The process that forked this one is the server, which lives as long as this does: wait for the tests' own."""
    tests = multiprocessing.parent_process()
    assert tests is not None
    tests.join()
    os.kill(os.getpid(), signal.SIGKILL)
