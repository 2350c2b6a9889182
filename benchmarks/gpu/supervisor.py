"""One process per section, watched: a row names what hangs, crashes or fails; a fresh process measures the rest."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from benchmarks.gpu.process import die_with_parent
from benchmarks.gpu.rows import Rows
from benchmarks.gpu.section import RESTART
from benchmarks.gpu.sections import PLANS

_POLL = 0.1
_GRACE = 15.0  # seconds that a measurement may take beyond its section's time
_ROOT = Path(__file__).resolve().parents[2]


def supervise(name: str, rows: Rows, arguments: Sequence[str], folder: Path, until: float) -> str:
    """Run the section until its names are measured or the time is over, and return why it ended early, or "".

    Args:
        name: of the section.
        rows: its file.
        arguments: of the command, for its processes.
        folder: that they work in.
        until: time.time() after which nothing new is begun.
    """
    command = [sys.executable, "-X", "faulthandler", "-m", "benchmarks.gpu", *arguments]
    command += ["--section", name, "--until", f"{until:.3f}"]
    while time.time() < until:
        before = len(rows.all())
        process = _start(command, folder)
        why = _watch(process, rows, PLANS[name].stall, until + _GRACE)
        if not why and process.returncode == 0:
            return "" if time.time() < until else "out of time"
        if not why and process.returncode != RESTART:
            why = f"the process ended with code {process.returncode}"
        if why == "out of time":
            return why
        stuck = rows.in_progress()
        if stuck is not None:
            rows.append(stuck, error=why or "failed")
        elif len(rows.all()) == before:
            return why or "it fails before it measures anything"
    return "out of time"


def _start(command: Sequence[str], folder: Path) -> "subprocess.Popen[bytes]":
    paths = os.pathsep.join([str(_ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    environment = os.environ | {"PYTHONPATH": paths, "PYTHONUNBUFFERED": "1"}
    return subprocess.Popen(command, cwd=folder, env=environment, start_new_session=True, preexec_fn=die_with_parent)


def _watch(process: "subprocess.Popen[bytes]", rows: Rows, stall: float, end: float) -> str:
    """Wait for the process, and return "" if it ended by itself, else why it was killed."""
    size, moved = -1, time.time()
    try:
        while process.poll() is None:
            time.sleep(_POLL)
            now, new = time.time(), rows.path.stat().st_size if rows.path.exists() else 0
            if new != size:
                size, moved = new, now
            if now > end:
                return "out of time"
            if now - moved > stall:
                return f"nothing new for {stall:.0f} s: killed"
        return ""
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # its children too
        process.wait()
