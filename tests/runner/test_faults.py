"""kill -9 at any moment: real processes are killed, gone on with, and end as the run that nobody disturbed."""

import random
import signal
from pathlib import Path

import pytest

from tests.faults import scenario
from tests.faults.scenario import Undisturbed, trials

PLACES = ["state half written", "training", "probing", "record written, not in place", "evaluating"]


def test_a_run_that_is_killed_five_times_ends_as_if_nobody_had(tmp_path: Path) -> None:
    undisturbed = Undisturbed(tmp_path / "undisturbed")
    draw = random.Random()  # other moments every time
    folder = tmp_path / "killed"
    for number, place in enumerate(PLACES):
        last = {"state half written": 3, "training": 9, "probing": 1, "evaluating": 10}.get(place, 2)
        count = draw.randint(1, last)
        code, _ = scenario.victim(folder, place, count, resume=undisturbed.record.id if number else None)
        assert code == -signal.SIGKILL, f"{place} at its passing {count}"
        assert not scenario.torn_files(folder)
    scenario.go_on(folder, undisturbed.record.id)
    assert undisturbed.compared(folder) == (True, True)
    assert not [path for path in folder.rglob(".*") if path.is_file()]


@pytest.mark.slow
def test_fifty_kills_lose_nothing(tmp_path: Path) -> None:
    found = list(trials(tmp_path, Undisturbed(tmp_path / "undisturbed"), kills=50, seed=random.randrange(10**6)))
    assert [trial for trial in found if trial.killed and not trial.lost_nothing] == []
    assert sum(trial.killed for trial in found) >= 45  # by the wall clock, some runs are over before
