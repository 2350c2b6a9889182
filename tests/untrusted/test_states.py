"""`fatbench resume` among damaged records, states and weights: it ends as the undisturbed run did, or in one line."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch

from fatbench.config.parsing import CheckpointInterval
from fatbench.config.spec import RunSpec
from fatbench.record import Record, load, save
from fatbench.record.parts import Probe, Score
from fatbench.record.paths import CHECKPOINT, PREVIOUS_CHECKPOINT
from fatbench.runner.checkpoint import Checkpoint, read_checkpoint, write_checkpoint
from tests.runner.test_resume import leave_off
from tests.runner.test_runner import make_spec, run

from . import specimens
from .conftest import OK, Answer
from .damage import Write, damaged, no_files

BATCHES = 2  # of three


@pytest.fixture(scope="module")
def unfinished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, RunSpec, Record]:
    """Return a folder in which a run was left off, its spec, and the record that it would have come to."""
    folder = tmp_path_factory.mktemp("left-off")
    with pytest.MonkeyPatch.context() as patched:
        patched.chdir(folder)
        Path("data.npz").write_bytes(specimens.arrays())
        small = {"dataset": "data.npz", "model": "small-cnn", "batch_size": 4, "epochs": 1, "threads": 1}
        spec = make_spec("standard", evaluate=["clean"], **small)
        whole = run(spec, output=Path("undisturbed"))
        leave_off(spec, Path("results"), BATCHES, checkpoint_every=CheckpointInterval(seconds=1e-9))
    assert {CHECKPOINT, PREVIOUS_CHECKPOINT} <= {file.name for file in (folder / "results" / spec.id).iterdir()}
    return folder, spec, whole


@pytest.fixture
def resume(
    answer: Answer, tmp_path: Path, unfinished: tuple[Path, RunSpec, Record]
) -> Callable[[Callable[[Path, str], None]], None]:
    """Return a function that has the folder disturbed, resumes, and compares with the undisturbed run."""
    folder, spec, whole = unfinished
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)

    def disturbed(disturb: Callable[[Path, str], None]) -> None:
        disturb(tmp_path / "results", spec.id)
        said = answer("resume", spec.id, "--calibration", "0", "-q")
        if said.code != OK:
            return
        found = load(tmp_path / "results" / f"{spec.id}.json")
        weights = [
            safetensors.torch.load_file(place / spec.id / "model.safetensors")
            for place in (folder / "undisturbed", tmp_path / "results")
        ]
        assert (found.status, found.steps) == (whole.status, whole.steps)
        assert found.scores["clean"].correct == whole.scores["clean"].correct
        assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])

    return disturbed


# Each is a run that is resumed: of what one and the same line of the code finds, one or two are enough.
FEW = ["cut-1-of-2", "bit-0", "null-bytes"]
SEVERAL = [*FEW, "stretch-0", "empty"]
STATES = [
    *(((CHECKPOINT,), name) for name in SEVERAL),
    *(((CHECKPOINT, PREVIOUS_CHECKPOINT), name) for name in FEW),
    ((PREVIOUS_CHECKPOINT,), "empty"),
]


@pytest.mark.parametrize(("files", "name"), STATES)
def test_damaged_states(resume: Callable[..., None], files: tuple[str, ...], name: str) -> None:
    def disturb(results: Path, run_id: str) -> None:
        for one in files:
            path = results / run_id / one
            path.write_bytes(dict(damaged(path.read_bytes(), 2))[name])

    resume(disturb)


@pytest.mark.parametrize("name", [*SEVERAL, "byte-order-mark", "not-utf8", "web-page"])
def test_damaged_records(resume: Callable[..., None], name: str) -> None:
    def disturb(results: Path, run_id: str) -> None:
        path = results / f"{run_id}.json"
        path.write_bytes(dict(damaged(path.read_bytes(), 2))[name])

    resume(disturb)


NO_FILES = {
    (what, name): write
    for what in ("{}.json", "{}/" + CHECKPOINT, "{}/running.json")
    for name, write in no_files()
    if "running" not in what or name in ("folder", "fifo", "endless")
    if "running" in what or name in ("gone", "folder", "fifo", "link-to-itself", "link-to-zeros", "endless")
}


@pytest.mark.parametrize(("what", "name"), NO_FILES)
def test_what_is_no_file(resume: Callable[..., None], what: str, name: str) -> None:
    write: Write = NO_FILES[what, name]

    def disturb(results: Path, run_id: str) -> None:
        path = results / what.format(run_id)
        path.unlink(missing_ok=True)
        write(path)

    resume(disturb)


def forged(**changes: Callable[[Checkpoint], object]) -> Callable[[Path, str], None]:
    """Return what puts other states, properly sealed, into the place of the run's."""

    def disturb(results: Path, run_id: str) -> None:
        path = results / run_id / CHECKPOINT
        checkpoint = read_checkpoint(path)
        for field, change in changes.items():
            object.__setattr__(checkpoint, field, change(checkpoint))
        (results / run_id / PREVIOUS_CHECKPOINT).unlink()
        write_checkpoint(checkpoint, path)

    return disturb


def training(name: str, value: torch.Tensor | None) -> Callable[[Path, str], None]:
    def change(checkpoint: Checkpoint) -> dict[str, torch.Tensor]:
        changed = {key: tensor for key, tensor in checkpoint.training.items() if key != name}
        return changed if value is None else changed | {name: value}

    return forged(training=change)


def facts(**changes: Any) -> Callable[[Path, str], None]:
    return forged(facts=lambda checkpoint: checkpoint.facts.model_copy(update=changes))


def recorded(**changes: Any) -> Callable[[Path, str], None]:
    def change(checkpoint: Checkpoint) -> Any:
        return checkpoint.facts.model_copy(update={"record": checkpoint.facts.record.model_copy(update=changes)})

    return forged(facts=change)


def cost(**changes: Any) -> Callable[[Path, str], None]:
    def change(checkpoint: Checkpoint) -> Any:
        return checkpoint.facts.model_copy(update={"cost": checkpoint.facts.cost.model_copy(update=changes)})

    return forged(facts=change)


FORGERIES = {
    "no-tensors": forged(training=lambda checkpoint: {}),
    "no-counters": training("counters", None),
    "counters-huge": training("counters", torch.tensor([2**62, 2**62, 2**62])),
    "generator-short": training("generator torch", torch.zeros(3, dtype=torch.uint8)),
    "weight-of-another-shape": training("model net.0.weight", torch.zeros(3, 3)),
    "momentum-of-the-last": training("optimizer -1 momentum_buffer", torch.zeros(2)),
    "kept-of-another-model": forged(kept=lambda checkpoint: {"evil": torch.ones(2)}),
    "counters-beyond-the-budget": training("counters", torch.tensor([10**9, 5, 0])),
    "counters-of-more-batches": training("counters", torch.tensor([5, 2**62, 0])),
    "loss-of-another-type": training("loss", torch.tensor(3)),
    "numpy-beyond-its-words": training("generator numpy position", torch.tensor([10**9, 0])),
    "python-gauss-of-many": training("generator python gauss", torch.zeros(9, dtype=torch.float64)),
    "buffer-of-nobody": training("buffer \x1b[2J", torch.zeros(2)),
    "seconds-strange": facts(seconds={"train": 1e12, "\x1b[2J": 1.0}),
    "kept-of-no-probe": facts(kept_step=77),
    "marks-impossible": cost(marks=[(0, 0.0), (10**12, 1e-300)]),
    "joules-negative": cost(joules=-1e300),
    "record-of-another": recorded(id="another"),
    "record-with-huge-scores": recorded(scores={"clean": Score(correct=1, total=2**63 - 1)}, steps=2**63 - 1),
    "history-of-other-looks": recorded(
        history=[Probe(epoch=1, step=1, train_seconds=0, lr=0, loss=None, scores={"other": Score(correct=1, total=2)})]
    ),
}


@pytest.mark.parametrize("name", FORGERIES)
def test_forged_states(answer: Answer, tmp_path: Path, unfinished: tuple[Path, RunSpec, Record], name: str) -> None:
    """Whoever can seal a state can write any: it need not come to the same, but it must end in one line or a result."""
    folder, spec, _ = unfinished
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    FORGERIES[name](tmp_path / "results", spec.id)
    answer("resume", spec.id, "--calibration", "0", "-q")


SPECS: dict[str, dict[str, Any]] = {
    "method-gone": {"method": "nowhere.py"},
    "method-evil": {"method": "../../evil.py"},
    "dataset-gone": {"dataset": "nowhere.npz"},
    "hyper-unknown": {"hyper": {"evil": 1}},
    "epochs-many": {"epochs": 1000},
    "batch-huge": {"batch_size": 10**9},
}


@pytest.mark.parametrize("name", SPECS)
@pytest.mark.parametrize("consistent", [True, False])
def test_records_of_other_specs(
    answer: Answer, tmp_path: Path, unfinished: tuple[Path, RunSpec, Record], name: str, consistent: bool
) -> None:
    """Whoever can write a record can give it the name that its spec has, and its state's folder too."""
    folder, spec, _ = unfinished
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    other, results = spec.replace(**SPECS[name]), tmp_path / "results"
    run_id = other.id if consistent else spec.id
    found = load(results / f"{spec.id}.json").model_copy(update={"spec": other, "id": run_id})
    (results / f"{spec.id}.json").unlink()
    save(found, results)
    (results / spec.id).rename(results / run_id)
    answer("resume", run_id, "--calibration", "0", "-q", refused=True)


RECORDS = {
    "id-another": lambda found: found.update(id="another"),
    "id-path": lambda found: found.update(id="../evil"),
    "artefact-elsewhere": lambda found: found.update(artefacts={"weights": "/etc/passwd"}),
    "finished-without-weights": lambda found: found["budget"].update(stopped_by="epochs"),
}


@pytest.mark.parametrize("name", RECORDS)
def test_strange_records(resume: Callable[..., None], name: str) -> None:
    def disturb(results: Path, run_id: str) -> None:
        path = results / f"{run_id}.json"
        found = json.loads(path.read_bytes())
        RECORDS[name](found)
        path.write_text(json.dumps(found))

    resume(disturb)


@pytest.mark.parametrize(
    "name", ["", ".", "..", "/", "nowhere", "../results", "a" * 5000, "\x1b[2J", "\0", "nowhere.json", "data.npz"]
)
def test_names_of_no_run(answer: Answer, tmp_path: Path, unfinished: tuple[Path, RunSpec, Record], name: str) -> None:
    shutil.copytree(unfinished[0], tmp_path, dirs_exist_ok=True)
    answer("resume", name, "-q", refused=True)
