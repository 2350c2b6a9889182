"""The tests in random order, on imitated processors, with one thread and with two, and beside other work.

    python -m tests.matrix

An instruction set is imitated by limiting torch and oneDNN to it: they round as on a machine that has no better one.
"""

import argparse
import os
import subprocess
import sys
import time
from contextlib import ExitStack
from dataclasses import dataclass

LIMITS = {  # what ATen and oneDNN may use at most
    "SSE4.1": {"ATEN_CPU_CAPABILITY": "default", "ONEDNN_MAX_CPU_ISA": "SSE41"},
    "AVX2": {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2"},
    "native": {},
}
BUSY = "while True: pass"


@dataclass(frozen=True)
class Case:
    """One run of the tests."""

    instructions: str
    threads: int
    loaded: bool = False

    def __str__(self) -> str:
        return f"{self.instructions}, {self.threads} thread{'s' * (self.threads > 1)}{', loaded' * self.loaded}"


CASES = [Case(limit, threads) for limit in LIMITS for threads in (1, 2)] + [Case("native", 1, loaded=True)]


def run(case: Case, seed: int) -> tuple[str, float]:
    """Return pytest's last line and the minutes that the tests took; what fails is printed as it comes."""
    limits = {name: value for name, value in os.environ.items() if not name.startswith(("ATEN_CPU", "ONEDNN_MAX"))}
    # Threads that wait for work let others compute: two processes share the processors.
    environment = limits | LIMITS[case.instructions] | {"TEST_THREADS": str(case.threads), "OMP_WAIT_POLICY": "passive"}
    tests = ["-m", "not slow and not gpu and not serial", "--numprocesses", "auto", "--dist", "worksteal", "-r", "fE"]
    command = [sys.executable, "-m", "pytest", *tests, "-p", "randomly", f"--randomly-seed={seed}"]
    started = time.monotonic()
    with ExitStack() as stack:
        for _ in range(len(os.sched_getaffinity(0)) if case.loaded else 0):
            stack.callback(stack.enter_context(subprocess.Popen([sys.executable, "-c", BUSY])).kill)
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    lines = done.stdout.strip().splitlines() or [done.stderr.strip()]
    print(*[line for line in lines if line.startswith(("FAILED", "ERROR"))], sep="\n", file=sys.stderr, flush=True)
    return lines[-1], (time.monotonic() - started) / 60


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.matrix", description=__doc__)
    parser.add_argument("--only", nargs="+", type=int, default=range(len(CASES)), help="indices of cases, from 0")
    parser.add_argument("--seed", type=int, default=0, help="of the order")
    asked = parser.parse_args()
    print("| processor | minutes | outcome |\n|---|--:|---|", flush=True)
    for index in asked.only:
        outcome, minutes = run(CASES[index], asked.seed + index)
        print(f"| {CASES[index]} | {minutes:.1f} | {outcome} |", flush=True)


if __name__ == "__main__":
    main()
