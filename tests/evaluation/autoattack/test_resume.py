"""A killed evaluation resumes where it was, and ends as an uninterrupted one."""

import signal
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from benchmarks.shortened import shortened
from fatbench.evaluation.eval_result import EvalProgress, EvalResult
from fatbench.threat import L2, Linf
from tests import processes
from tests.evaluation.autoattack import victim
from tests.evaluation.autoattack.subjects import Subject, fitted

PARTS = ["apgd-ce", "apgd-t", "fab-t", "square"]


class KilledError(Exception):
    """In the midst of an evaluation."""


class Progress:
    """Keeps its calls, and ends the evaluation after so many."""

    def __init__(self, patience: int | None = None) -> None:
        self.calls: list[EvalProgress] = []
        self.patience = patience

    def __call__(self, progress: EvalProgress) -> None:
        if len(self.calls) == self.patience:
            raise KilledError
        self.calls.append(progress)


def without_times(eval_result: EvalResult) -> dict[str, Any]:
    seen = vars(replace(eval_result, seconds=0.0, part_seconds={}))
    return seen | {"broken_by": eval_result.broken_by.tolist()}


@pytest.fixture
def shorter() -> Iterator[None]:
    with shortened(0.01):
        yield


@pytest.fixture
def subject() -> Subject:
    return fitted(images=12, ball=Linf(0.15))


@pytest.mark.usefixtures("shorter")
def test_progress_names_attack_and_chunk_and_guesses_nothing(subject: Subject) -> None:
    progress = Progress()
    eval_result = subject.evaluate(batch_size=3, watch=progress)
    calls = progress.calls
    assert [one.part for one in calls[:2]] == ["apgd-ce, chunk 1 of 4", "apgd-ce, chunk 2 of 4"]
    assert list(dict.fromkeys(one.part.split(",")[0] for one in calls)) == PARTS
    for one in calls:
        first = "chunk 1 of" in one.part
        assert (one.seconds_left is None) == first
        assert one.seconds_left is None or one.seconds_left > 0
    done = [one.done for one in calls]
    assert done == sorted(done)
    assert done[0] == 0
    assert {one.total for one in calls} == {12}
    assert sum(eval_result.part_seconds.values()) <= eval_result.seconds


@pytest.mark.parametrize("engine", ["exact", "fast"])
@pytest.mark.usefixtures("shorter")
def test_stopped_after_any_chunk_it_ends_the_same(subject: Subject, tmp_path: Path, engine: str) -> None:
    subject, progress = subject._replace(x=subject.x[:7], y=subject.y[:7]), Progress()
    whole = subject.evaluate(batch_size=3, watch=progress, engine=engine)
    assert 0 < whole.standing.sum() < 7
    state = tmp_path / "deep" / "state.npz"
    for patience in range(1, len(progress.calls)):
        with pytest.raises(KilledError):
            subject.evaluate(batch_size=3, watch=Progress(patience), engine=engine, state=state)
        rest = Progress()
        resumed = subject.evaluate(batch_size=3, watch=rest, engine=engine, state=state)
        assert without_times(resumed) == without_times(whole)
        assert [one.part for one in rest.calls] == [one.part for one in progress.calls[patience:]]
        again = Progress()  # what is complete is known, until whoever asked has written it down
        assert without_times(subject.evaluate(batch_size=3, watch=again, engine=engine, state=state)) == without_times(
            whole
        )
        assert again.calls == []
        state.unlink()


@pytest.mark.usefixtures("shorter")
def test_seconds_add_up_over_restarts(subject: Subject, tmp_path: Path) -> None:
    state = tmp_path / "state.npz"
    for _ in range(2):
        with pytest.raises(KilledError):
            subject.evaluate(batch_size=3, watch=Progress(3), state=state)
    with np.load(state) as arrays:
        content = dict(arrays)
    content["seconds"] = content["seconds"] + 1000
    np.savez(state, **content)
    eval_result = subject.evaluate(batch_size=3, state=state)
    assert 1000 < eval_result.seconds < 1100
    assert all(1000 <= seconds < 1100 for seconds in eval_result.part_seconds.values())


Change = Callable[[Subject], tuple[Subject, dict[str, Any]]]


def _with_other_weights(subject: Subject) -> tuple[Subject, dict[str, Any]]:
    with torch.no_grad():
        next(subject.model.parameters()).mul_(1.01)
    return subject, {}


OTHERS: dict[str, Change] = {
    "weights": _with_other_weights,
    "images": lambda one: (one._replace(x=one.x.flip(3)), {}),
    "labels": lambda one: (one._replace(y=torch.cat([one.y[:11], one.y[:1]])), {}),
    "eps": lambda one: (one._replace(ball=Linf(0.14)), {}),
    "norm": lambda one: (one._replace(ball=L2(0.2)), {}),
    "batch size": lambda one: (one, {"batch_size": 4}),
    "engine": lambda one: (one, {"engine": "fast"}),
}


@pytest.mark.parametrize("change", OTHERS.values(), ids=OTHERS)
def test_another_evaluations_state_is_no_business_of_this_one(subject: Subject, tmp_path: Path, change: Change) -> None:
    state, progress = tmp_path / "state.npz", Progress()
    with shortened(0.01):
        with pytest.raises(KilledError):
            subject.evaluate(batch_size=3, watch=Progress(1), state=state)
        other, options = change(subject)
        eval_result = other.evaluate(**{"batch_size": 3, "watch": progress, "state": state} | options)
    assert progress.calls[0].part.startswith("apgd-ce, chunk 1 of")
    assert not any("restarted" in warning for warning in eval_result.warnings)


def _tampered(name: str, value: object) -> Callable[[Path], None]:
    def tamper(state: Path) -> None:
        with np.load(state) as arrays:
            content = dict(arrays)
        content[name] = np.array(value)
        np.savez(state, **content)

    return tamper


DAMAGES = {
    "cut short": lambda state: state.write_bytes(state.read_bytes()[:200]),
    "not a file of arrays": lambda state: state.write_text("hello"),
    "too many images": _tampered("broken_by", np.zeros(13, dtype=np.int8)),
    "impossible parts": _tampered("broken_by", np.full(12, 9, dtype=np.int8)),
    "impossible position": _tampered("counters", [0, 13, 3]),
    "negative seconds": _tampered("seconds", [-1.0, 0.0, 0.0, 0.0, 0.0]),
    "words for numbers": _tampered("counters", ["a", "b", "c"]),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_state_is_not_believed(subject: Subject, tmp_path: Path, damage: Callable[[Path], object]) -> None:
    state, progress = tmp_path / "state.npz", Progress()
    with shortened(0.01):
        with pytest.raises(KilledError):
            subject.evaluate(batch_size=3, watch=Progress(1), state=state)
        damage(state)
        eval_result = subject.evaluate(batch_size=3, watch=progress, state=state)
    assert progress.calls[0].part == "apgd-ce, chunk 1 of 4"
    assert sum("restarted" in warning for warning in eval_result.warnings) == 1


def test_a_killed_process_loses_no_more_than_a_chunk(tmp_path: Path) -> None:
    subject = fitted(ball=Linf(0.15))
    torch.save(subject.model.state_dict(), tmp_path / "weights.pt")
    log = tmp_path / "said.log"
    killed = processes.end(processes.fork(victim.perish, tmp_path, cwd=tmp_path, log=log), log)
    assert killed.code == -signal.SIGKILL
    before = killed.said.splitlines()
    progress, undisturbed = Progress(), Progress()
    with shortened(victim.SHARE):
        whole = subject.evaluate(victim.BATCH_SIZE, watch=undisturbed)
        resumed = subject.evaluate(victim.BATCH_SIZE, watch=progress, state=tmp_path / "state.npz")
    assert without_times(resumed) == without_times(whole)
    parts = [one.part for one in undisturbed.calls]
    assert before == parts[: victim.LAST]
    assert [one.part for one in progress.calls] == parts[victim.LAST - 1 :]
