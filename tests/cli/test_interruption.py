"""Ctrl-C and SIGTERM: the batch is finished, the state kept, one line says how to go on, and it does."""

import os
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from fatbench.cli.interruption import heeding_signals
from fatbench.evaluation.scores import Exam
from fatbench.record import Record, load
from fatbench.runner.saved import FILE, read_saved
from fatbench.training.loop import Training
from tests.cli.conftest import TINY, Said

Fatbench = Callable[..., Said]
RUN = ("run", "-m", "fgsm-rs", "--epochs", "2", "--eval", "clean", "--quiet", "--calibration", "0")
BOTH = [(signal.SIGINT, 130), (signal.SIGTERM, 75)]


@pytest.fixture(autouse=True)
def _sigint_reaches_this_process() -> Iterator[None]:
    """A suite that a shell has put into the background ignores SIGINT."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def signal_at(monkeypatch: pytest.MonkeyPatch, batch: int, *numbers: int) -> None:
    """Send this process signals in the middle of a batch."""
    step = Training._count

    def signalled(training: Training, steps: int) -> None:
        if training.batches == batch:
            for number in numbers:
                os.kill(os.getpid(), number)
        step(training, steps)

    monkeypatch.setattr(Training, "_count", signalled)


def the_record(folder: Path) -> tuple[Path, Record]:
    (path,) = (folder / "results").glob("*.json")
    return path, load(path)


def scores(record: Record) -> dict[str, int]:
    return {name: score.correct for name, score in record.scores.items()}


@pytest.mark.parametrize(("number", "code"), BOTH)
def test_a_signal_finishes_the_batch_keeps_the_state_and_resume_goes_on(
    fatbench: Fatbench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, code: int
) -> None:
    before = signal.getsignal(number)
    with monkeypatch.context() as patched:
        signal_at(patched, 13, number)
        said = fatbench(*RUN)
    assert signal.getsignal(number) is before
    path, record = the_record(tmp_path)
    assert (said.code, record.status, record.budget.stopped_by, record.steps) == (
        code,
        "interrupted",
        "interrupted",
        13,
    )
    relative = path.relative_to(tmp_path)
    assert said.complaint == f"interrupted; what was earned is in {relative}; fatbench resume {record.id} goes on"
    assert read_saved(path.parent / record.id / FILE).steps == 13
    said = fatbench("resume", record.id, "--quiet", "--calibration", "0")
    assert said.code == 0
    assert said.complaint.startswith("goes on from step 13, after ")
    resumed = load(path)
    assert resumed.status == "finished"
    said = fatbench(*RUN, "--force")
    assert scores(load(path)) == scores(resumed)


def test_a_second_signal_ends_the_run_at_once_and_leaves_the_last_state(
    fatbench: Fatbench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    signal_at(monkeypatch, 13, signal.SIGINT, signal.SIGINT)
    said = fatbench(*RUN)
    path, record = the_record(tmp_path)
    assert (said.code, record.status) == (130, "interrupted")
    assert read_saved(path.parent / record.id / FILE).steps == 9  # of the first epoch's end


@pytest.mark.parametrize(("number", "code"), BOTH)
def test_in_an_evaluation_a_signal_ends_the_run_at_once(
    fatbench: Fatbench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, code: int
) -> None:
    with monkeypatch.context() as patched:
        sit = Exam.sit

        def signalled(exam: Exam, *args: object, **options: object) -> object:
            if len(exam.x) == 497:  # test images, not a probe's
                os.kill(os.getpid(), number)
            return sit(exam, *args, **options)  # type: ignore[arg-type]

        patched.setattr(Exam, "sit", signalled)
        said = fatbench(*RUN)
    path, record = the_record(tmp_path)
    assert (said.code, record.status, record.budget.stopped_by) == (code, "interrupted", "epochs")
    assert said.complaint.endswith("the same command goes on with the evaluation")
    assert "trained already" in fatbench("resume", path, "--quiet", "--calibration", "0").complaint
    assert load(path).status == "finished"
    assert sorted(file.name for file in (path.parent / record.id).iterdir()) == ["model.safetensors", "samples.npz"]


def test_resume_takes_a_file_and_run_takes_resume(
    fatbench: Fatbench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = tmp_path / "elsewhere"
    for again in (("resume",), (*RUN, "--resume", "-o", output)):
        with monkeypatch.context() as patched:
            signal_at(patched, 13, signal.SIGTERM)
            said = fatbench(*RUN, "-o", output, "--force")
        (path,) = output.glob("*.json")
        running = output / path.stem / "running.json"
        assert f"fatbench resume {path.stem} --output {output} goes on" in said.complaint
        arguments = (*again, running if running.exists() else path, "-q", "--calibration", "0")
        said = fatbench(*arguments) if again == ("resume",) else fatbench(*again, "--force")
        assert said.complaint.startswith("goes on from step 13, after ")
        assert load(path).status == "finished"
        assert not running.exists()


def test_a_finished_run_is_not_resumed_and_an_unknown_one_is_one_line(fatbench: Fatbench, tmp_path: Path) -> None:
    fatbench(*RUN)
    path, record = the_record(tmp_path)
    said = fatbench("resume", record.id, "-q")
    assert said.code == 0
    assert said.complaint.startswith("stored result of ")
    for wrong in ("nope", "../nope", "nope.json", f"{record.id}x"):
        said = fatbench("resume", wrong)
        assert said.code == 2
        assert said.complaint.startswith("no run '")
    path.write_text("{}")
    assert "is not a fatbench record" in fatbench("resume", record.id).complaint


def test_another_spec_is_refused_in_one_line(
    fatbench: Fatbench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        signal_at(patched, 13, signal.SIGTERM)
        fatbench(*RUN)
    said = fatbench(*RUN, "--resume", "--lr", "0.1")
    assert said.code == 2
    assert "differs in lr (0.2, not 0.1); give the same, or leave out --resume to start anew" in said.complaint


def test_an_edited_model_is_not_gone_on_with(
    fatbench: Fatbench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    net = "import torch\n\n\ndef net():\n    return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 10))\n"
    (tmp_path / "net.py").write_text(net)
    with monkeypatch.context() as patched:
        signal_at(patched, 13, signal.SIGTERM)
        fatbench(*RUN, "--model", "net.py:net")
    (tmp_path / "net.py").write_text(f"{net}# edited\n")
    _, record = the_record(tmp_path)
    said = fatbench("resume", record.id, "--quiet")
    assert (said.code, said.complaint) == (
        2,
        f"cannot go on with {record.id}: the source of net.py:net is not what it was",
    )
    (tmp_path / "net.py").write_text(net)
    assert fatbench("resume", record.id, "--quiet", "--calibration", "0").code == 0


@pytest.mark.parametrize("text", ["", "0e", "often"])
def test_how_often_is_refused_in_one_line(fatbench: Fatbench, text: str) -> None:
    said = fatbench(*RUN, "--checkpoint-every", text)
    assert (said.code, said.complaint.partition(":")[0]) == (2, "--checkpoint-every")


# Several runs


def test_after_an_interruption_the_rest_is_not_begun_and_all_are_listed(
    fatbench: Fatbench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "bad.py").write_text("def bad(model, batch, ctx): yield from ()")
    signal_at(monkeypatch, 5, signal.SIGTERM)
    said = fatbench("run", "-m", "./bad.py", "-m", "standard", "--seeds", "0,1", *TINY)
    assert said.code == 75
    ends = [line.split()[1:] for line in said.err.splitlines()[-4:]]
    assert ends == [
        ["failed", "bad", "seed", "0"],
        ["failed", "bad", "seed", "1"],
        ["interrupted", "standard", "seed", "0"],
        ["not", "begun", "standard", "seed", "1"],
    ]
    stored = [load(path) for path in (tmp_path / "results").glob("*.json")]
    assert sorted(record.status for record in stored) == ["failed", "failed", "interrupted"]


def test_a_failed_run_is_listed_beside_the_others(fatbench: Fatbench, tmp_path: Path) -> None:
    (tmp_path / "bad.py").write_text("def bad(model, batch, ctx): yield from ()")
    said = fatbench("run", "-m", "standard", "-m", "./bad.py", *TINY)
    assert said.code == 4
    assert [line.split()[1] for line in said.err.splitlines()[-2:]] == ["finished", "failed"]


# Signals


def test_other_threads_have_no_signals_and_ignored_ones_stay_ignored() -> None:
    seen: list[object] = []

    def enter() -> None:
        with heeding_signals():
            seen.append(signal.getsignal(signal.SIGTERM))

    before = signal.getsignal(signal.SIGTERM)
    thread = threading.Thread(target=enter)
    thread.start()
    thread.join()
    assert seen == [before]
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with heeding_signals():
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
        assert signal.getsignal(signal.SIGTERM) is not before
    assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
