"""Kill a run, go on with it, and see what was lost."""

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import cycle, islice
from pathlib import Path

import safetensors.torch
import torch

from fatbench.errors import UsageError
from fatbench.record import Record, load
from fatbench.runner.saved import BEFORE, FILE, read_saved
from fatbench.training.checkpoint import FILE as WEIGHTS
from tests.faults.victim import PLACES

ANY_MOMENT = "any moment, by the wall clock"
QUICK = ("--calibration", "0", "-q")
RUN = ("-m", "fgsm-rs", "--epochs", "4", "--eval", "clean,pgd-5", "--eval-batch-size", "50", *QUICK)


@dataclass(frozen=True)
class Trial:
    """What came of one kill."""

    place: str
    killed: bool  # False: the run was over before
    torn: list[str]  # files that were only half there
    repeated: int  # optimiser steps that had to be taken again
    same_scores: bool
    same_weights: bool  # bit for bit

    @property
    def lost_nothing(self) -> bool:
        return self.killed and not self.torn and self.same_scores and self.same_weights


class Undisturbed:
    """The run as it is when nobody kills it: its result, how often it passes each place, and its seconds."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        started = time.monotonic()
        code, self.log = victim(folder, "nowhere", 0)
        self.seconds = time.monotonic() - started
        assert code == 0
        (self.path,) = folder.glob("*.json")
        self.record = load(self.path)

    def moments(self, place: str) -> int:
        """How often it passes `place`."""
        return self.log.count(place)

    def compared(self, folder: Path) -> tuple[bool, bool]:
        """Whether the result in another folder has the same scores, history and steps; and the same weights."""
        other = load(folder / self.path.name)
        mine, theirs = (
            safetensors.torch.load_file(at / one.artefacts["weights"]) for at, one in self._both(other, folder)
        )
        return _outcome(self.record) == _outcome(other), all(torch.equal(mine[name], theirs[name]) for name in mine)

    def _both(self, other: Record, folder: Path) -> tuple[tuple[Path, Record], tuple[Path, Record]]:
        return (self.folder, self.record), (folder, other)


def trials(folder: Path, undisturbed: Undisturbed, kills: int, seed: int) -> Iterator[Trial]:
    """Yield what came of each of so many kills: all places in turn, each at a random one of its moments."""
    draw = random.Random(seed)
    places = [ANY_MOMENT, *draw.sample(PLACES, len(PLACES))]
    for number, place in enumerate(islice(cycle(places), kills)):
        yield _trial(folder / str(number), undisturbed, place, draw)


def _trial(folder: Path, undisturbed: Undisturbed, place: str, draw: random.Random) -> Trial:
    if place == ANY_MOMENT:
        # From when there is something to lose; a run that is over before is drawn again.
        code, log = victim(folder, "nowhere", 0, kill_after=draw.uniform(0.4, 0.95) * undisturbed.seconds)
    else:
        code, log = victim(folder, place, draw.randint(1, undisturbed.moments(place)))
    torn = torn_files(folder)
    said = go_on(folder, undisturbed.record.id)
    scores, weights = undisturbed.compared(folder)
    return Trial(place, code == -signal.SIGKILL, torn, _repeated(log, said, code), scores, weights)


def victim(
    folder: Path, place: str, count: int, *, kill_after: float | None = None, resume: str | None = None
) -> tuple[int, list[str]]:
    """Run, or go on with the run `resume`, in a process that dies; return its exit code and the places it passed."""
    folder.mkdir(parents=True, exist_ok=True)
    log = folder / "passed.log"
    what = ["run", *RUN] if resume is None else ["resume", resume, *QUICK]
    command = [sys.executable, "-m", "tests.faults.victim", log, place, str(count), *what, "-o", folder]
    with subprocess.Popen(list(map(str, command)), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            process.wait(kill_after)
        except subprocess.TimeoutExpired:
            os.kill(process.pid, signal.SIGKILL)
    return process.returncode, log.read_text().splitlines() if log.exists() else []


def go_on(folder: Path, run_id: str) -> str:
    """Go on with the run, by its id or by its command, and return what was said."""
    recorded = (folder / f"{run_id}.json").exists()
    arguments = ["resume", run_id, *QUICK] if recorded else ["run", *RUN, "--resume"]
    command = [sys.executable, "-m", "fatbench", *arguments, "-o", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    return done.stderr


def _repeated(log: list[str], said: str, code: int) -> int:
    taken = log.count("training")
    if code == 0 or "trained already" in said:
        return 0
    _, found, rest = said.partition("goes on from step ")
    return taken - int(rest.split(",")[0]) if found else taken


def torn_files(folder: Path) -> list[str]:
    """Return the files that are not whole; what has a temporary name is nobody's."""
    found = []
    for path in folder.rglob("*"):
        try:
            if path.suffix == ".json" and not path.name.startswith("."):
                load(path)
            elif path.name in (FILE, BEFORE):
                read_saved(path)
            elif path.name == WEIGHTS:
                safetensors.torch.load_file(path)
        except (UsageError, safetensors.SafetensorError):
            found.append(path.name)
    return found


def _outcome(record: Record) -> tuple[object, ...]:
    scores = {name: (score.correct, score.total, score.survivors) for name, score in record.scores.items()}
    history = [probe.model_copy(update={"train_seconds": 0.0}) for probe in record.history]
    return record.status, record.steps, scores, history
