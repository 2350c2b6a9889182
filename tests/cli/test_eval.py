"""`fatbench eval`: weights from here and elsewhere are scored as a run's are, and what is wrong with them is said."""

import argparse
import json
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
import torch.nn.functional as F

from fatbench import runner
from fatbench.config.request import Request, RunOptions
from fatbench.config.resolve import resolve
from fatbench.errors import ResourceError
from fatbench.evaluation.autoattack import run as autoattack
from fatbench.evaluation.autoattack.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from fatbench.evaluation.evaluator import Evaluator
from fatbench.record import Record, load
from fatbench.record.samples import load_samples
from fatbench.runner import claim
from tests.cli.conftest import Said

Fatbench = Callable[..., Said]
USAGE, INVALID, RESOURCES, INTERRUPTED = 2, 4, 6, 130
ASKED = ("clean", "pgd-5", "autoattack:n=4")

NET = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self, classes=10):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(1, 4, 3, 2), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten())
        self.drop = nn.Dropout(0.5)
        self.head = nn.LazyLinear(classes)

    def forward(self, x):
        return self.head(self.drop(self.body(x)))

class Trains(Net):
    def forward(self, x):
        self.train()
        return super().forward(x)

class Divides(Net):
    def forward(self, x):
        return super().forward(x) / x.amax((1, 2, 3))[:, None].lt(0.9)

class Softmax(Net):
    def forward(self, x):
        return super().forward(x).softmax(1)

class Random(Net):
    def forward(self, x):
        return super().forward(x) + torch.rand(1)

def net(num_classes): return Net(num_classes)
def trains(num_classes): return Trains(num_classes)
def divides(num_classes): return Divides(num_classes)
def softmax(num_classes): return Softmax(num_classes)
def random(num_classes): return Random(num_classes)
"""


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Record, Path]:
    """A run of one epoch on digits, and the folder of its record."""
    folder = tmp_path_factory.mktemp("results")
    (spec,) = resolve(Request(["fgsm-rs"], settings={"epochs": 1, "evaluate": ASKED, "eps": "0.3"}), "cpu")
    return runner.run(spec, RunOptions(output=folder, calibration_seconds=0.0)), folder


def images(classes: int, tests: int = 60) -> dict[str, np.ndarray]:
    """Digits of that many classes as 28x28 images: each pixel three by three, and a black frame."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    chosen = digits.target < classes
    x = np.kron(digits.images[chosen] * 15.9, np.ones((3, 3))).astype(np.uint8)
    x, y = np.pad(x, ((0, 0), (2, 2), (2, 2))), digits.target[chosen]
    return {"x_train": x[tests:], "y_train": y[tests:], "x_test": x[:tests], "y_test": y[:tests]}


@pytest.fixture
def outside(tmp_path: Path) -> Callable[..., tuple[torch.nn.Module, dict[str, np.ndarray]]]:
    """Return a function that writes net.py, data.npz and weights.pt: a network of somebody else's, a bit trained."""

    def write(classes: int = 10) -> tuple[torch.nn.Module, dict[str, np.ndarray]]:
        (tmp_path / "net.py").write_text(NET)
        arrays = images(classes)
        np.savez(tmp_path / "data.npz", **arrays)
        namespace: dict[str, type] = {"__name__": "net"}
        exec(NET, namespace)
        net = namespace["Net"](classes)
        x, y = normalised(arrays["x_train"]), torch.from_numpy(arrays["y_train"]).long()
        net(x[:2])
        optimizer = torch.optim.Adam(net.parameters(), lr=0.01)
        for k in range(30):
            rows = torch.arange(k * 64, k * 64 + 64) % len(x)
            optimizer.zero_grad()
            F.cross_entropy(net(x[rows]), y[rows]).backward()
            optimizer.step()
        state = {f"module.{name}": value for name, value in net.state_dict().items()}
        torch.save({"epoch": 1, "state_dict": state, "optimizer": optimizer.state_dict()}, tmp_path / "weights.pt")
        return net.eval(), arrays

    return write


def normalised(x: np.ndarray) -> torch.Tensor:
    return (torch.from_numpy(x)[:, None] / 255 - 0.1307) / 0.3081


def test_a_checkpoint_of_a_run_gives_the_runs_own_scores_image_by_image(
    fatbench: Fatbench, trained: tuple[Record, Path]
) -> None:
    run, folder = trained
    said = fatbench("eval", folder / run.artefacts["weights"], "--eval", ",".join(ASKED), "--json", "--strict")
    assert said.code == 0, said.err
    (written,) = Path("results").glob("*.json")
    found = load(written)
    assert json.loads(said.out)[0]["id"] == found.id == written.stem
    assert (found.spec.method, found.spec.train, found.spec.eps) == ("external", None, run.spec.eps)
    assert found.method.sha256 == found.spec.checkpoint
    assert found.parameters == run.parameters
    counts = [{name: (s.correct, s.total, s.survivors) for name, s in one.scores.items()} for one in (run, found)]
    assert counts[0] == counts[1]
    ours = load_samples(folder / run.artefacts["samples"])
    theirs = load_samples(Path("results") / found.artefacts["samples"])
    assert np.array_equal(ours.hashes, theirs.hashes)
    assert ours.outcomes.keys() == theirs.outcomes.keys()
    for name, outcome in ours.outcomes.items():
        assert np.array_equal(outcome.broken_by, theirs.outcomes[name].broken_by)


def test_an_outside_model_is_scored_as_its_owner_would(
    fatbench: Fatbench, outside: Callable[..., tuple[torch.nn.Module, dict[str, np.ndarray]]]
) -> None:
    net, arrays = outside()
    command = ("eval", "weights.pt", "--model", "net.py:net", "-d", "data.npz", "--normalize", "0.1307,0.3081")
    said = fatbench(*command, "--eps", "0.3", "--eval", "clean,pgd-50-10:n=20")
    assert said.code == 0, said.err
    (written,) = Path("results").glob("data-net-net-external-*.json")
    record = load(written)
    assert written.stem in said.out.replace("\n", "")
    right = net(normalised(arrays["x_test"])).argmax(1).numpy() == arrays["y_test"]
    assert record.scores["clean"].correct == right.sum() > 30
    assert (record.scores["pgd-50-10"].total, record.spec.eps, record.spec.norm) == (20, "0.3", "linf")
    assert record.scores["pgd-50-10"].correct < 20
    assert record.diagnostics is not None
    assert record.diagnostics.findings == []
    again = fatbench(*command, "--eps", "0.3", "--eval", "clean,pgd-50-10:n=20")
    assert "stored result of" in again.err


@pytest.mark.parametrize(("classes", "version"), [(2, "custom(2 classes)"), (3, "custom(3 classes)"), (5, "4 targets")])
def test_few_classes(
    fatbench: Fatbench,
    outside: Callable[..., tuple[torch.nn.Module, dict[str, np.ndarray]]],
    classes: int,
    version: str,
) -> None:
    outside(classes)
    said = fatbench(
        *("eval", "weights.pt", "--model", "net.py:net", "-d", "data.npz", "--normalize", "0.1307,0.3081"),
        *("--eps", "0.3", "--eval", "autoattack:n=4", "--json"),
    )
    assert said.code == 0, said.err
    score = json.loads(said.out)[0]["scores"]["autoattack"]
    assert score["total"] == 4
    assert version in score["attack"]["version"]


@pytest.mark.parametrize(
    ("factory", "code", "line"),
    [
        ("trains", "train-mode", "is in train mode although the model was put in eval mode"),
        ("divides", "non-finite-logits", "images are not finite, and such images count as wrong"),
        ("softmax", "softmax-outputs", "the outputs are probabilities: return logits, attacks need them"),
        ("random", "randomised-outputs", "two forwards of the same images differ by up to"),
    ],
)
def test_a_model_that_breaks_the_contract_is_scored_with_a_finding_that_strict_heeds(
    fatbench: Fatbench,
    outside: Callable[..., tuple[torch.nn.Module, dict[str, np.ndarray]]],
    factory: str,
    code: str,
    line: str,
) -> None:
    outside()
    command = ("eval", "weights.pt", "--model", f"net.py:{factory}", "-d", "data.npz", "--eval", "clean", "--quiet")
    lax, strict = fatbench(*command), fatbench(*command, "--strict")
    assert lax.code == 0, lax.err
    assert strict.code == INVALID
    (written,) = Path("results").glob("*.json")
    diagnostics = load(written).diagnostics
    assert diagnostics is not None
    assert code in [finding.code for finding in diagnostics.findings]
    assert f"fatbench: {code}: " in strict.err
    assert line in strict.err


def test_weights_are_scored_on_test_images_alone(
    fatbench: Fatbench, outside: Callable[..., Any], tmp_path: Path
) -> None:
    _, arrays = outside()
    options = ("--model", "net.py:net", "--eps", "0.3", "--eval", "clean", "--normalize", "0.13,0.31", "--json")
    whole = json.loads(fatbench("eval", "weights.pt", "--dataset", "data.npz", *options).out)
    np.savez(tmp_path / "test.npz", x_test=arrays["x_test"], y_test=arrays["y_test"])
    alone = json.loads(fatbench("eval", "weights.pt", "--dataset", "test.npz", *options).out)
    assert alone[0]["scores"]["clean"]["correct"] == whole[0]["scores"]["clean"]["correct"] > 30
    assert alone[0]["data"]["train"] == 0
    said = fatbench("run", "-m", "fgsm", "--dataset", "test.npz", "--model", "net.py:net", "-q")
    assert said.code == 2
    assert "test.npz has no x_train" in said.complaint


@pytest.mark.parametrize(
    ("flags", "line"),
    [
        (("--eps", "8"), "eps 8 is beyond the pixels' range [0, 1]; did you mean 8/255?"),
        (("--eps", "0"), "eps is positive, not 0"),
        (("--eps", "4/255,8/255"), "an evaluation has one eps, not 4/255 and 8/255: run it once for each"),
        (("--norm", "l2"), "--norm l2 needs --eps"),
        (("--model", "resnet81"), "no model 'resnet81': there are small-cnn"),
        (("--dataset", "cifar11"), "no dataset 'cifar11': there are digits"),
        (("--eval", "none"), "no evaluation 'none': there are clean, fgsm, pgd-STEPS"),
        (("--eval", "pgd"), "no evaluation 'pgd'"),
        (("--device", "tpu"), "no device 'tpu'"),
        (("--normalize", "0.5"), "--normalize takes MEAN,STD of pixels in [0, 1], as 0.1307,0.3081 or"),
        (("--normalize", "a,b"), ", not 'a,b'"),
        (("--normalize", "0.5 0.5,0.2"), ", not '0.5 0.5,0.2'"),
        (("--normalize", "0.5,0"), "deviations in (0, 1]"),
        (("--normalize", "125.3,63.0"), "divide those of 8-bit pixels by 255"),
        (("--normalize", "nan,0.5"), ", not 'nan,0.5'"),
        (("--normalize", "0.5,0.25"), "model.safetensors brings its own normalisation: leave out --normalize"),
        (
            ("--normalize", "0.5 0.5 0.5,0.2 0.2 0.2"),
            "--normalize gives 3 means and 3 deviations, but the images have 1",
        ),
        (("--model", "resnet18"), "does not fit --model resnet18: missing "),
    ],
)
def test_a_mistake_ends_in_one_line(
    fatbench: Fatbench, trained: tuple[Record, Path], flags: tuple[str, ...], line: str
) -> None:
    run, folder = trained
    said = fatbench("eval", folder / run.artefacts["weights"], "--eval", "clean", *flags, "--quiet")
    assert line in said.complaint
    assert said.code == USAGE
    assert not Path("results").exists()


def test_a_file_that_holds_no_weights_ends_in_one_line(fatbench: Fatbench) -> None:
    Path("weights.pt").write_text("<!DOCTYPE html><html>")
    flags = ("--model", "small-cnn", "-d", "digits", "--quiet")
    assert "weights.pt is a web page, not a checkpoint" in fatbench("eval", "weights.pt", *flags).complaint
    assert "cannot read gone.pt: No such file" in fatbench("eval", "gone.pt", *flags).complaint
    assert "is a folder: give the file of the weights" in fatbench("eval", ".", *flags).complaint
    record = "one.json is no checkpoint: give the file of the weights, such as one/model.safetensors"
    assert record in fatbench("eval", "one.json").complaint
    Path("w.safetensors").write_text("nothing")  # which is said before any question
    assert "w.safetensors is no safetensors file, or is cut short" in fatbench("eval", "w.safetensors").complaint
    torch.save(torch.nn.Linear(2, 2), "weights.pt")
    assert "is a pickled torch.nn.modules.linear.Linear" in fatbench("eval", "weights.pt", *flags).complaint
    torch.save({"conv1.weight": torch.zeros(1)}, "weights.pt")
    assert "unexpected conv1.weight; give the --model" in fatbench("eval", "weights.pt", *flags).complaint


def test_of_several_models_in_a_file_the_one_asked_for_is_scored(
    fatbench: Fatbench, outside: Callable[..., tuple[torch.nn.Module, dict[str, np.ndarray]]]
) -> None:
    net, arrays = outside()
    fresh = {name: torch.zeros_like(value) for name, value in net.state_dict().items()}
    arguments = argparse.Namespace(lr=0.1)
    torch.save({"model": fresh, "model_ema": net.state_dict(), "args": arguments, "acc": np.float64(9)}, "both.pt")
    command = ("eval", "both.pt", "--model", "net.py:net", "-d", "data.npz", "--normalize", "0.1307,0.3081")
    right = int((net(normalised(arrays["x_test"])).argmax(1).numpy() == arrays["y_test"]).sum())
    first = fatbench(*command, "--eval", "clean", "--json")
    said = fatbench(*command, "--eval", "clean", "--json", "--checkpoint-key", "model_ema", "--strict")
    assert (first.code, said.code) == (0, 0), said.err  # another run, and nothing to distrust
    (plain,), (average,) = json.loads(first.out), json.loads(said.out)
    assert plain["id"] != average["id"]
    assert [one["code"] for one in plain["diagnostics"]["findings"]] == ["several-models"]
    assert (average["scores"]["clean"]["correct"], average["spec"]["checkpoint_key"]) == (right, "model_ema")
    assert ", its model_ema, trained elsewhere" in fatbench("show", average["id"]).out
    refused = fatbench(*command, "--checkpoint-key", "ema", "--quiet").complaint
    assert "both.pt has no weights at 'ema' (--checkpoint-key); it has them at model, model_ema" in refused


def test_images_of_floats_are_refused(fatbench: Fatbench) -> None:
    arrays = images(10)
    np.savez("data.npz", **{**arrays, "x_test": arrays["x_test"].astype(np.float32)})
    torch.save({"conv1.weight": torch.zeros(1)}, "weights.pt")
    said = fatbench("eval", "weights.pt", "--model", "small-cnn", "-d", "data.npz", "--quiet")
    assert "x_test is float32, expected uint8 0..255" in said.complaint


def test_what_a_checkpoint_does_not_tell_is_asked_for(fatbench: Fatbench, trained: tuple[Record, Path]) -> None:
    run, folder = trained
    torch.save({"a": torch.zeros(1)}, "weights.pt")
    assert "which model? weights.pt does not tell: give --model" in fatbench("eval", "weights.pt").complaint
    alone = Path("alone.safetensors")
    alone.write_bytes((folder / run.artefacts["weights"]).read_bytes())
    assert "which dataset? alone.safetensors does not tell" in fatbench("eval", alone).complaint
    said = fatbench("eval", alone, "-d", "digits", "--dry-run")
    assert json.loads(said.out)[0]["model"] == "small-cnn"


def test_no_code_runs_because_a_file_names_it(fatbench: Fatbench) -> None:
    Path("trap.py").write_text("from pathlib import Path\nPath('sprung').touch()\ndef net(): ...\n")
    metadata = {"id": "x", "model": "trap.py:net"}
    safetensors.torch.save_file({"a": torch.zeros(1)}, "weights.safetensors", metadata)
    assert "which model?" in fatbench("eval", "weights.safetensors", "-d", "digits").complaint
    assert not Path("sprung").exists()


def test_ctrl_c_keeps_what_was_earned_and_the_same_command_goes_on(
    fatbench: Fatbench, trained: tuple[Record, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    run, folder = trained
    command = ("eval", folder / run.artefacts["weights"], "--eval", "clean,pgd-5", "--quiet")

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Evaluator, "_pgd", interrupt)
        said = fatbench(*command)
    assert said.code == INTERRUPTED
    (written,) = Path("results").glob("*.json")
    assert f"interrupted; partial results are in {written}; the same command resumes" in said.err
    assert (load(written).status, list(load(written).scores)) == ("interrupted", ["clean"])
    assert fatbench(*command).code == 0
    record = load(written)
    assert record.status == "finished"
    assert record.scores["pgd-5"].correct == run.scores["pgd-5"].correct
    assert record.budget.stopped_by is None


def test_an_autoattack_that_was_killed_goes_on_from_where_it_was(
    fatbench: Fatbench, trained: tuple[Record, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    run, folder = trained
    command = ("eval", folder / run.artefacts["weights"], "--eval", "autoattack:n=4", "--quiet")
    resumed: list[Checkpoint] = []

    def save_and_die(*arguments: object) -> None:
        save_checkpoint(*arguments)  # type: ignore[arg-type]
        raise KeyboardInterrupt

    def load_and_tell(*arguments: object) -> Checkpoint | None:
        course = load_checkpoint(*arguments)  # type: ignore[arg-type]
        resumed.extend([course] if course else [])
        return course

    with monkeypatch.context() as patch:
        patch.setattr(autoattack, "save_checkpoint", save_and_die)
        assert fatbench(*command).code == INTERRUPTED
    monkeypatch.setattr(autoattack, "load_checkpoint", load_and_tell)
    assert fatbench(*command).code == 0
    assert len(resumed) == 1
    (written,) = Path("results").glob("*.json")
    found, expected = load(written).scores["autoattack"], run.scores["autoattack"]
    assert (found.correct, found.survivors) == (expected.correct, expected.survivors)


def test_force_scores_again(fatbench: Fatbench, trained: tuple[Record, Path]) -> None:
    run, folder = trained
    command = ("eval", folder / run.artefacts["weights"], "--eval", "clean", "--quiet")
    fatbench(*command)
    (written,) = Path("results").glob("*.json")
    before = written.stat().st_mtime_ns
    assert fatbench(*command, "--force").code == 0
    assert written.stat().st_mtime_ns > before
    assert load(written).status == "finished"


def test_a_replacement_that_was_complete_is_found_by_the_next_evaluation(
    fatbench: Fatbench, trained: tuple[Record, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was killed between the end of its work and the moment at which it takes the earlier result's place."""
    run, folder = trained
    command = ("eval", folder / run.artefacts["weights"], "--eval", "clean", "--quiet")
    fatbench(*command)
    (written,) = Path("results").glob("*.json")
    first, waiting = load(written), Path("results") / written.stem / "running.json"
    with monkeypatch.context() as patched:
        patched.setattr(claim, "save", _no_room)
        assert fatbench(*command, "--force").code == RESOURCES
    assert (load(written), load(waiting).status) == (first, "finished")
    said = fatbench(*command)
    assert (said.code, waiting.exists()) == (0, False)
    assert "stored result of" in said.err
    assert load(written).timing != first.timing  # it is the replacement's


def test_what_another_process_has_finished_meanwhile_is_not_scored_again(
    fatbench: Fatbench, trained: tuple[Record, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    run, folder = trained
    command = ("eval", folder / run.artefacts["weights"], "--eval", "clean", "--quiet")
    lock = claim.locked

    def first_another(output: Path, run_id: str) -> AbstractContextManager[None]:
        monkeypatch.setattr(claim, "locked", lock)
        assert fatbench(*command).code == 0
        (other,) = Path("results").glob("*.json")
        finished.append(other.read_bytes())
        return lock(output, run_id)

    finished: list[bytes] = []
    monkeypatch.setattr(claim, "locked", first_another)
    said = fatbench(*command)
    (written,) = Path("results").glob("*.json")
    assert (said.code, [written.read_bytes()]) == (0, finished)
    assert "stored result of" in said.err


def _no_room(*_: object) -> None:
    raise ResourceError("cannot write: No space left on device")
