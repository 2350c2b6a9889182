"""Parts of the engine that are required: nothing that was earned is lost, or passes, for want of one."""

from pathlib import Path
from typing import Literal

import pytest

from fatbench.cancellation import Interrupted
from fatbench.config.spec import RunSpec
from fatbench.errors import ResourceError
from fatbench.record import Record, load
from fatbench.runner.observer import Observer
from tests.cli.test_engine_flags import NET
from tests.runner.test_resume import PER_EPOCH, assert_alike, leave_off, make_spec
from tests.runner.test_runner import run


class TrainingOnly(Observer):
    def stage(self, name: str) -> None:
        if name.startswith("evaluating"):
            raise Interrupted


@pytest.fixture
def spec(tmp_path: Path) -> RunSpec:
    """A run without folding: its network has a layer that cannot be folded."""
    (tmp_path / "net.py").write_text(NET)
    return make_spec("fgsm-rs", model=f"{tmp_path / 'net.py'}:net", engine="fast", epochs=2, evaluate=["clean"])


def record_of(spec: RunSpec, folder: Path) -> Record:
    return load(folder / f"{spec.id}.json")


@pytest.mark.parametrize("resume", [False, True])
def test_weights_that_were_trained_without_it_are_not_scored_for_it(
    spec: RunSpec, tmp_path: Path, resume: bool
) -> None:
    with pytest.raises(Interrupted):
        run(spec, output=tmp_path, observer=TrainingOnly())
    before = record_of(spec, tmp_path)
    for _ in range(2):
        with pytest.raises(ResourceError, match="--require fold: not in force: GroupNorm"):
            run(spec, output=tmp_path, resume=resume, require=("fold",))
    assert record_of(spec, tmp_path) == before
    record = run(spec, output=tmp_path, resume=resume, require=("channels-last",))
    assert (record.status, record.history) == ("finished", before.history)


def test_what_an_interrupted_run_has_come_to_outlives_a_refusal(spec: RunSpec, tmp_path: Path) -> None:
    run(spec, output=tmp_path / "a")
    leave_off(spec, tmp_path / "b", PER_EPOCH + 2)
    before = record_of(spec, tmp_path / "b")
    assert len(before.history) == 1
    with pytest.raises(ResourceError, match="--require fold: not in force"):
        run(spec, output=tmp_path / "b", resume=True, require=("fold",))
    after = record_of(spec, tmp_path / "b")
    assert (after.history, after.status) == (before.history, "failed")
    run(spec, output=tmp_path / "b", resume=True)
    assert_alike(tmp_path / "a", tmp_path / "b", spec)


def test_a_part_that_nobody_answers_for_is_off(spec: RunSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fatbench.training.preparation.EnginePart", Literal["fold", "planted"])
    in_force = run(spec, output=tmp_path).engine.in_force  # type: ignore[union-attr]
    assert (in_force["planted"], in_force["fused-sgd"]) == (False, True)
