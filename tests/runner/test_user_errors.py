"""kill -9 at any moment: real processes are killed, gone on with, and end as the run that nobody disturbed."""

import random
import signal
import sys
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
    undisturbed = [Undisturbed(tmp_path / f"undisturbed-{name}", name) for name in scenario.SCENARIOS]
    found = list(trials(tmp_path, undisturbed, kills=50, seed=random.randrange(10**6)))
    assert [trial for trial in found if trial.lost] == []
    assert sum(trial.killed for trial in found) >= 45  # by the wall clock, some runs are over before


def test_a_loss_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of every kind of file a half is noticed, and the command that injects faults fails for it."""
    from tests.faults import __main__ as command

    inside = tmp_path / "a-run"
    inside.mkdir()
    names = ["model.safetensors", "last.safetensors", "state.safetensors", "state-before.safetensors", "samples.npz"]
    for name in names:
        (inside / name).write_bytes(b"half")
        (inside / f"running-{name}").write_bytes(b"half")
    (inside / "running.json").write_bytes(b"{")
    assert len(scenario.torn_files(tmp_path)) == 2 * len(names) + 1
    for torn, code in (([], 0), (["a.json"], 1)):
        trial = scenario.Trial("training", "plain", True, torn, 0, True, True)
        monkeypatch.setattr(sys, "argv", ["tests.faults"])
        monkeypatch.setattr(command, "Undisturbed", lambda *_: None)
        monkeypatch.setattr(command, "trials", lambda *_, trial=trial: [trial])
        monkeypatch.setattr(command, "_print", lambda *_: None)
        monkeypatch.setattr(command, "print", lambda *_, **__: None, raising=False)
        monkeypatch.setattr(command, "_said", lambda *_: "")
        with pytest.raises(SystemExit) as ended:
            command.main()
        assert ended.value.code == code
