"""`make bench-prove`: does the check see what it should, and nothing else?

Makes a baseline of the code as it is, checks the unchanged code ten times, each in a process of its own, and then
makes one method after the other half as slow again, from outside, by burning half of each batch's own time after it.
The unchanged code must be green every time; every planted slowdown must be red, and name that method and no other.
Exit code 0 if so.
"""

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path

import torch

from benchmarks import check
from benchmarks.measuring import build, clock_for, lane_names
from fatbench import methods
from fatbench.runner.timing import Contender
from fatbench.training.clock import synchronize

UNCHANGED_RUNS = 10
PLANTED = 0.5  # of a batch's own time, on top


def main() -> int:
    parser = argparse.ArgumentParser(prog="make bench-prove", description=__doc__.splitlines()[0])
    parser.add_argument("--method", action="append", help="plant in this one; repeatable [default: all, in turn]")
    parser.add_argument("--runs", type=int, default=UNCHANGED_RUNS, help="of unchanged code [default: 10]")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        baseline = Path(folder) / "baseline.json"
        subprocess.run([*_command(baseline), "--update"], check=True, stdout=subprocess.DEVNULL)
        green = sum(_unchanged_is_green(baseline, run) for run in range(1, options.runs + 1))
        wanted = options.method or methods.names()
        red = sum(_planted_is_red(baseline, method) for method in wanted)
    print(f"unchanged: {green} of {options.runs} green; slowed down: {red} of {len(wanted)} red, and only they")
    return 0 if (green, red) == (options.runs, len(wanted)) else 1


def slowed(method: str, build: check.Build = build) -> check.Build:
    """Return a `build` whose trainings of `method` take 1.5 times as long."""

    def build_slowed(lanes: Sequence[str], device: torch.device) -> Mapping[str, Contender]:
        contenders = build(lanes, device)
        for lane, one in contenders.items():
            if lane.split(", ")[0] == method:
                one.training.step_through_batch = _slowed(one.training.step_through_batch, device)
        return contenders

    return build_slowed


def _planted_is_red(baseline: Path, method: str) -> bool:
    said = StringIO()
    with redirect_stdout(said):
        code = check.main(["--baseline", str(baseline)], build=slowed(method))
    verdict = said.getvalue().splitlines()[-1]
    lanes = [lane for lane in lane_names() if lane.split(", ")[0] == method]
    print(f"{method} x 1.5: exit code {code}, {verdict}", flush=True)
    return code == check.SLOWER and verdict == f"slower: {'; '.join(lanes)}"


def _unchanged_is_green(baseline: Path, run: int) -> bool:
    done = subprocess.run(_command(baseline), capture_output=True, text=True)
    print(f"unchanged, run {run}: exit code {done.returncode}, {done.stdout.splitlines()[-1]}", flush=True)
    return done.returncode == check.OK


def _command(baseline: Path) -> list[str]:
    return [sys.executable, "-m", "benchmarks.check", "--baseline", str(baseline)]


def _slowed(step: Callable[[], None], device: torch.device) -> Callable[[], None]:
    now = clock_for(device)

    def step_slowly() -> None:
        started = now()
        step()
        synchronize(device)
        until = now() + PLANTED * (now() - started)
        while now() < until:
            pass

    return step_slowly


if __name__ == "__main__":
    sys.exit(main())
