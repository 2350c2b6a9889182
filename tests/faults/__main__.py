"""python -m tests.faults --kills 50: kill real runs, and print a table of what was injected and what was lost."""

import argparse
import platform
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path

import torch

from tests.faults.scenario import RUN, SCENARIOS, Trial, Undisturbed, trials


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        undisturbed = [Undisturbed(folder / f"undisturbed-{name}", name) for name in SCENARIOS]
        by_place: dict[str, list[Trial]] = defaultdict(list)
        for trial in trials(folder, undisturbed, asked.kills, asked.seed):
            by_place[trial.place].append(trial)
        _print(by_place, undisturbed[0])
    print(f"\n{_said(undisturbed[0])}, seed {asked.seed}; {time.monotonic() - started:.0f} s in all.")
    lost = [trial for found in by_place.values() for trial in found if trial.lost]
    for trial in lost:
        print(f"lost: {trial}", file=sys.stderr)
    sys.exit(1 if lost else 0)


def _print(by_place: dict[str, list[Trial]], undisturbed: Undisturbed) -> None:
    print("| killed | times | half-written files | other scores | other weights | steps taken again, median and most |")
    print("|---|--:|--:|--:|--:|--:|")
    everything = [trial for found in by_place.values() for trial in found]
    for place, found in [*by_place.items(), ("**all**", everything)]:
        again = [trial.repeated for trial in found]
        cells = [
            place,
            sum(trial.killed for trial in found),
            sum(len(trial.torn) for trial in found),
            sum(not trial.same_scores for trial in found),
            sum(not trial.same_weights for trial in found),
            f"{statistics.median(again):g}, {max(again)} of {undisturbed.record.steps}",
        ]
        print("|", " | ".join(map(str, cells)), "|")


def _said(undisturbed: Undisturbed) -> str:
    """Return what was run, and where."""
    return (
        f"`fatbench run {' '.join(RUN)}`, in turn as it is, with --select best, and with --force where it has a "
        f"result; {undisturbed.record.steps} steps; {_machine(undisturbed)}"
    )


def _machine(undisturbed: Undisturbed) -> str:
    environment = undisturbed.record.environment
    assert environment is not None
    return (
        f"{environment.device}, {environment.platform}, Python {platform.python_version()}, torch {torch.__version__}"
    )


if __name__ == "__main__":
    main()
