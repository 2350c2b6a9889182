"""The Python API: the command line's commands as functions."""

import subprocess
import sys
from pathlib import Path

import pytest

import fatbench
from fatbench.config.request import RunOptions
from fatbench.errors import UsageError
from fatbench.record import Record

QUICK = {"epochs": 1, "limit_train": 256, "evaluate": "clean"}


@pytest.fixture
def options(tmp_path: Path) -> RunOptions:
    return RunOptions(output=tmp_path / "results", calibration_seconds=0.0)


@pytest.fixture
def records(options: RunOptions) -> list[Record]:
    return fatbench.run(["fgsm", "standard"], seeds="0,1", hyper={"fgsm.alpha": 0.5}, options=options, **QUICK)


def test_a_run_scored_again_loaded_and_compared(records: list[Record], options: RunOptions) -> None:
    assert [f"{one.spec.method} {one.spec.seed}" for one in records] == ["fgsm 0", "fgsm 1", "standard 0", "standard 1"]
    assert records[0].spec.training.hyper == {"alpha": 0.5}
    found = fatbench.load(options.output)
    assert {one.record.id for one in found} == {one.id for one in records}
    (group,) = fatbench.compare(found, sort="method", reference="fgsm")
    assert [row.method for row in group.rows] == ["fgsm", "standard"]
    assert group.reference is not None
    assert len(fatbench.compare(found, paired=True)[0].paired or ()) == 1
    assert list(fatbench.frame(found)["seed"]) == [one.record.spec.seed for one in found]
    again = fatbench.evaluate(options.output / records[0].artefacts["weights"], evaluate=["clean"], options=options)
    assert again.spec.train is None
    assert again.scores["clean"].correct == records[0].scores["clean"].correct


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"epochz": 1}, "no setting 'epochz'; there are autoattack_samples, awp, batch_size"),
        ({"lr": -1.0}, "--lr must be more than 0"),
        ({"time_budget": "soon"}, "a time budget looks like 90s"),
        ({"model": dict}, "model must be a name or a path, not type"),
        ({"select_on": "pgd-20"}, "--select-on requires --select best"),
        ({"preset": Path("nowhere")}, "no preset 'nowhere'"),
        ({"seeds": "0;1"}, "--seeds takes whole numbers such as 0,1,2 or ranges such as 0-4, not '0;1'"),
        ({"evaluate": 5}, "evaluate takes names, as 'clean' or .* not a int"),
    ],
)
def test_a_mistake_is_one_line(settings: dict[str, object], says: str) -> None:
    with pytest.raises(UsageError, match=says):
        fatbench.run("fgsm", **settings)  # type: ignore[arg-type]


def test_a_file_that_is_no_record_is_not_left_out(tmp_path: Path) -> None:
    (tmp_path / "one.json").write_text("{}")
    with pytest.raises(UsageError, match="is not a fatbench record"):
        fatbench.load(tmp_path)


def test_what_is_not_there_is_no_attribute() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'train'"):
        _ = fatbench.train


def test_importing_loads_no_torch() -> None:
    code = "import sys, fatbench; fatbench.run, fatbench.compare; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
