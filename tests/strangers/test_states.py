"""`fatbench resume` among damaged records, states and weights: it ends as the undisturbed run did, or in one line."""

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import safetensors.torch
import torch

from fatbench.record import Record, load
from fatbench.runner.saved import BEFORE, FILE, Saved, read_saved, write_saved
from fatbench.spec import RunSpec
from tests.runner.test_resume import leave_off
from tests.runner.test_runner import make_spec, run

from . import specimens
from .conftest import OK, Answer
from .damage import Write, damaged, no_files

BATCHES = 10  # of one image-poor epoch each


@pytest.fixture(scope="module")
def left_off(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, RunSpec, Record]]:
    """Return a folder in which a run was left off, its spec, and the record that it would have come to."""
    folder = tmp_path_factory.mktemp("left-off")
    with pytest.MonkeyPatch.context() as patched:
        patched.chdir(folder)
        Path("data.npz").write_bytes(specimens.arrays())
        spec = make_spec("fgsm-rs", dataset="data.npz", model="small-cnn", batch_size=4, epochs=5, evaluate=["clean"])
        whole = run(spec, output=Path("undisturbed"))
        leave_off(spec, Path("results"), BATCHES)
    assert {FILE, BEFORE} <= {file.name for file in (folder / "results" / spec.id).iterdir()}
    yield folder, spec, whole


@pytest.fixture
def resume(
    answer: Answer, tmp_path: Path, left_off: tuple[Path, RunSpec, Record]
) -> Callable[[Callable[[Path, str], None]], None]:
    """Return a function that has the folder disturbed, resumes, and compares with the undisturbed run."""
    folder, spec, whole = left_off
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


def contents(times: int) -> list[str]:
    return [name for name, _ in damaged(b"x" * 1000, times)]


@pytest.mark.parametrize("name", contents(4))
@pytest.mark.parametrize("file", [FILE, BEFORE, "both"])
def test_damaged_states(resume: Callable[..., None], file: str, name: str) -> None:
    def disturb(results: Path, run_id: str) -> None:
        for one in [FILE, BEFORE] if file == "both" else [file]:
            path = results / run_id / one
            path.write_bytes(dict(damaged(path.read_bytes(), 4))[name])

    resume(disturb)


@pytest.mark.parametrize("name", contents(6))
def test_damaged_records(resume: Callable[..., None], name: str) -> None:
    def disturb(results: Path, run_id: str) -> None:
        path = results / f"{run_id}.json"
        path.write_bytes(dict(damaged(path.read_bytes(), 6))[name])

    resume(disturb)


@pytest.mark.parametrize(("name", "write"), list(no_files()))
@pytest.mark.parametrize("what", ["{}.json", "{}/" + FILE, "{}/running.json"])
def test_what_is_no_file(resume: Callable[..., None], what: str, name: str, write: Write) -> None:
    def disturb(results: Path, run_id: str) -> None:
        path = results / what.format(run_id)
        path.unlink(missing_ok=True)
        write(path)

    resume(disturb)


def forged(**changes: Callable[[Saved], object]) -> Callable[[Path, str], None]:
    """Return what puts other states, properly sealed, into the place of the run's."""

    def disturb(results: Path, run_id: str) -> None:
        path = results / run_id / FILE
        saved = read_saved(path)
        for field, change in changes.items():
            object.__setattr__(saved, field, change(saved))
        (results / run_id / BEFORE).unlink()
        write_saved(saved, path)

    return disturb


def training(name: str, value: torch.Tensor | None) -> Callable[[Path, str], None]:
    def change(saved: Saved) -> dict[str, torch.Tensor]:
        changed = {key: tensor for key, tensor in saved.training.items() if key != name}
        return changed if value is None else changed | {name: value}

    return forged(training=change)


FORGERIES = {
    "no-tensors": forged(training=lambda saved: {}),
    "no-counters": training("counters", None),
    "counters-short": training("counters", torch.tensor([1, 2])),
    "counters-negative": training("counters", torch.tensor([-5, -5, -5])),
    "counters-huge": training("counters", torch.tensor([2**62, 2**62, 2**62])),
    "counters-real": training("counters", torch.tensor([1.5, float("nan"), 2.0])),
    "no-loss": training("loss", None),
    "loss-long": training("loss", torch.zeros(5)),
    "generator-short": training("generator torch", torch.zeros(3, dtype=torch.uint8)),
    "generator-real": training("generator torch", torch.zeros(5056)),
    "weight-of-another-shape": training("model net.0.weight", torch.zeros(3, 3)),
    "weight-of-another-type": training("model net.0.weight", torch.zeros(16, 1, 3, 3, dtype=torch.int64)),
    "momentum-of-nobody": training("optimizer 999 momentum_buffer", torch.zeros(2)),
    "momentum-of-the-last": training("optimizer -1 momentum_buffer", torch.zeros(2)),
    "kept-of-another-model": forged(kept=lambda saved: {"evil": torch.ones(2)}),
    "seconds-strange": forged(
        facts=lambda saved: saved.facts.model_copy(update={"seconds": {"train": 1e12, "\x1b[2J": 1.0}})
    ),
}


@pytest.mark.parametrize("name", FORGERIES)
def test_forged_states(answer: Answer, tmp_path: Path, left_off: tuple[Path, RunSpec, Record], name: str) -> None:
    """Whoever can seal a state can write any: it need not come to the same, but it must end in one line or a result."""
    folder, spec, _ = left_off
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    FORGERIES[name](tmp_path / "results", spec.id)
    answer("resume", spec.id, "--calibration", "0", "-q")


RECORDS = {
    "method-gone": lambda found: found["spec"].update(method="nowhere.py"),
    "method-evil": lambda found: found["spec"].update(method="../../evil.py"),
    "dataset-gone": lambda found: found["spec"].update(dataset="nowhere.npz"),
    "hyper-unknown": lambda found: found["spec"]["hyper"].update(evil=1),
    "epochs-huge": lambda found: found["spec"].update(epochs=10**9),
    "batch-huge": lambda found: found["spec"].update(batch_size=10**9),
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
def test_names_of_no_run(answer: Answer, tmp_path: Path, left_off: tuple[Path, RunSpec, Record], name: str) -> None:
    shutil.copytree(left_off[0], tmp_path, dirs_exist_ok=True)
    answer("resume", name, "-q", refused=True)
