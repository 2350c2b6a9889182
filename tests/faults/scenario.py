"""Kill a run, go on with it, and see what was lost."""

import hashlib
import random
import shutil
import signal
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import cycle, islice
from pathlib import Path

import safetensors.torch
import torch

from fatbench.errors import UsageError
from fatbench.record import Record, load
from fatbench.record.paths import CHECKPOINT, LAST_WEIGHTS, PREVIOUS_CHECKPOINT, SAMPLES, WEIGHTS, final_name
from fatbench.record.samples import load_samples
from fatbench.runner.checkpoint import read_checkpoint
from tests import processes
from tests.faults.victim import PLACES, perish

ANY_MOMENT = "any moment, by the wall clock"
QUICK = ("--calibration", "0", "-q")
SCENARIOS = {"plain": (), "best": ("--select", "best"), "replacing": ("--force",)}  # what is added to the command
FEW = ("--limit-train", "288", "--batch-size", "32")
RUN = ("-m", "fgsm-rs", "--epochs", "4", "--eval", "clean,pgd-5", "--eval-batch-size", "50", *FEW, *QUICK)


@dataclass(frozen=True)
class Trial:
    """What came of one kill."""

    place: str
    scenario: str  # that it was killed in
    killed: bool  # False: the run was over before
    torn: list[str]  # files that were only half there
    repeated: int  # optimiser steps that had to be taken again
    same_scores: bool
    same_weights: bool  # bit for bit

    @property
    def lost(self) -> bool:
        return bool(self.torn) or not (self.same_scores and self.same_weights)


class Undisturbed:
    """The run as it is when nobody kills it: its result, how often it passes each place, and its seconds."""

    def __init__(self, folder: Path, scenario: str = "plain") -> None:
        self.folder, self.scenario = folder, scenario
        self.what = [*RUN, *SCENARIOS[scenario]]
        folder.mkdir(parents=True, exist_ok=True)
        processes.start_server(folder)
        started = time.monotonic()
        code, self.log = victim(folder, "nowhere", 0, what=self.what)
        self.seconds = time.monotonic() - started
        assert code == 0, (folder / "said.log").read_text()
        (self.path,) = folder.glob("*.json")
        self.record = load(self.path)

    def moments(self, place: str) -> int:
        """How often it passes `place`."""
        return self.log.count(place)

    def compared(self, folder: Path) -> tuple[bool, bool]:
        """Whether the result in another folder has the same scores, history and steps; and the same weights."""
        other = load(folder / self.path.name)
        mine, theirs = _weights(self.folder, self.record), _weights(folder, other)
        same = mine.keys() == theirs.keys() and all(torch.equal(mine[name], theirs[name]) for name in mine)
        return _outcome(self.record) == _outcome(other), same


def _weights(folder: Path, record: Record) -> dict[str, torch.Tensor]:
    """The tensors of every file of weights that the record names, which has to be the one that it was written for."""
    found = {}
    for name, digest in record.digests.items():
        content = (folder / record.artefacts[name]).read_bytes()
        assert hashlib.sha256(content).hexdigest() == digest
        found |= {f"{name} {key}": tensor for key, tensor in safetensors.torch.load(content).items()}
    assert found
    return found


def trials(folder: Path, undisturbed: Sequence[Undisturbed], kills: int, seed: int) -> Iterator[Trial]:
    """Yield what came of each of so many kills: all places in turn, each at a random one of its moments."""
    draw = random.Random(seed)
    places = [ANY_MOMENT, *draw.sample(PLACES, len(PLACES))]
    turns = cycle(undisturbed)
    for number, place in enumerate(islice(cycle(places), kills)):
        turn = next(turns)
        yield _trial(folder / str(number), turn, place, draw)


def _trial(folder: Path, undisturbed: Undisturbed, place: str, draw: random.Random) -> Trial:
    what = undisturbed.what
    if undisturbed.scenario == "replacing":
        shutil.copytree(undisturbed.folder, folder)
        (folder / "passed.log").unlink()
    if place == ANY_MOMENT:
        # From when there is something to lose; a run that is over before is drawn again.
        moment = draw.uniform(0.4, 0.95) * undisturbed.seconds
        code, log = victim(folder, "nowhere", 0, kill_after=moment, what=what)
    else:
        code, log = victim(folder, place, draw.randint(1, undisturbed.moments(place)), what=what)
    torn = torn_files(folder)
    stands = (folder / undisturbed.path.name).exists() and load(folder / undisturbed.path.name).is_result
    if undisturbed.scenario == "replacing":  # whichever result is in force, it is whole
        assert stands
        _weights(folder, load(folder / undisturbed.path.name))
    said = go_on(folder, undisturbed.record.id, what)
    scores, weights = undisturbed.compared(folder)
    return Trial(
        place, undisturbed.scenario, code == -signal.SIGKILL, torn, _repeated(log, said, code), scores, weights
    )


def victim(
    folder: Path,
    place: str,
    count: int,
    *,
    kill_after: float | None = None,
    resume: str | None = None,
    what: Sequence[str] = RUN,
) -> tuple[int, list[str]]:
    """Run, or go on with the run `resume`, in a process that dies; return its exit code and the places it passed."""
    folder.mkdir(parents=True, exist_ok=True)
    log = folder / "passed.log"
    arguments = ["run", *what] if resume is None else ["resume", resume, *QUICK]
    process = processes.fork(
        perish, str(log), place, count, [*arguments, "-o", str(folder)], cwd=folder, log=folder / "said.log"
    )
    if kill_after is not None:
        process.join(kill_after)
        process.kill()
    ended = processes.end(process, folder / "said.log")
    return ended.code, log.read_text().splitlines() if log.exists() else []


def go_on(folder: Path, run_id: str, what: Sequence[str] = RUN) -> str:
    """Go on with the run, by its id or by its command, and return what was said."""
    recorded = (folder / f"{run_id}.json").exists()
    arguments = ["resume", run_id, *QUICK] if recorded else ["run", *what, "--resume"]
    log = folder / "said.log"
    done = processes.end(processes.fork(processes.fatbench, *arguments, "-o", folder, cwd=folder, log=log), log)
    assert done.code == 0, done.said
    assert "Traceback" not in done.said
    return done.said


def _repeated(log: list[str], said: str, code: int) -> int:
    taken = log.count("training")
    if code == 0 or "trained already" in said or "stored result" in said:
        return 0
    _, found, rest = said.partition("resumes at step ")
    return taken - int(rest.split(",")[0]) if found else taken


def torn_files(folder: Path) -> list[str]:
    """Return the files that are not whole; what has a temporary name is nobody's."""
    found = []
    for path in folder.rglob("*"):
        try:
            if path.suffix == ".json" and not path.name.startswith("."):
                load(path)
            elif final_name(path.name) in (CHECKPOINT, PREVIOUS_CHECKPOINT):
                read_checkpoint(path)
            elif final_name(path.name) in (WEIGHTS, LAST_WEIGHTS):
                safetensors.torch.load_file(path)
            elif final_name(path.name) == SAMPLES:
                load_samples(path)
        except (UsageError, safetensors.SafetensorError):
            found.append(path.name)
    return found


def _outcome(record: Record) -> tuple[object, ...]:
    scores = {name: (score.correct, score.total, score.survivors) for name, score in record.scores.items()}
    history = [probe.model_copy(update={"train_seconds": 0.0}) for probe in record.history]
    return record.status, record.steps, scores, history
