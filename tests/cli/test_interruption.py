"""Ctrl-C, SIGTERM and the like: the batch is finished, the state kept, one line says how to resume, and that works."""

import hashlib
import json
import os
import shlex
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from fatbench.cli.resume_hint import report_interrupted
from fatbench.cli.signals import HANDLED, cancel_on_signals
from fatbench.config.request import RunOptions
from fatbench.evaluation.evaluator import Evaluator
from fatbench.record import Record, load, save
from fatbench.record.paths import CHECKPOINT
from fatbench.runner.checkpoint import read_checkpoint
from fatbench.runner.record_writer import RecordWriter
from fatbench.training.loop import Training
from tests import processes
from tests.cli.conftest import TINY, Said

Fatbench = Callable[..., Said]
FEW = ("--limit-train", "288", "--batch-size", "32")  # nine batches an epoch
RUN = ("run", "-m", "fgsm-rs", "--epochs", "2", "--eval", "clean", "--quiet", "--calibration", "0", *FEW)
SOME = [(signal.SIGINT, 130), (signal.SIGTERM, 75), (signal.SIGHUP, 75)]
ALL = [(number, 130 if number == signal.SIGINT else 75) for number in HANDLED]


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


@pytest.mark.parametrize(("number", "code"), ALL)
def test_a_signal_finishes_the_batch_keeps_the_state_and_resume_goes_on(
    fatbench: Fatbench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, code: int
) -> None:
    with monkeypatch.context() as patched:
        signal_at(patched, 13, number)
        said = fatbench(*RUN)
    path, record = the_record(tmp_path)
    assert (said.code, record.status, record.steps) == (code, "interrupted", 13)
    assert record.budget.stopped_by == "interrupted"
    relative = path.relative_to(tmp_path)
    assert said.complaint == f"interrupted; partial results are in {relative}; fatbench resume {record.id} resumes"
    assert read_checkpoint(path.parent / record.id / CHECKPOINT).steps == 13
    said = fatbench("resume", record.id, "--quiet", "--calibration", "0")
    assert said.code == 0
    assert said.complaint.startswith("resumes at step 13, after ")
    resumed = load(path)
    assert resumed.status == "finished"
    said = fatbench(*RUN, "--force")
    assert scores(load(path)) == scores(resumed)


@pytest.mark.parametrize(
    ("numbers", "code", "steps"),
    [
        ((signal.SIGINT, signal.SIGINT), 130, 9),  # the state is that of the first epoch's end
        ((signal.SIGUSR1, signal.SIGTERM), 75, 9),
        ((signal.SIGUSR1, signal.SIGUSR1, signal.SIGXCPU), 75, 13),  # a scheduler warns a step and its script
        ((signal.SIGHUP, signal.SIGHUP), 75, 13),  # kernel and shell
        ((signal.SIGTERM, signal.SIGHUP), 75, 13),  # systemd
        ((signal.SIGINT, signal.SIGUSR2), 130, 13),
    ],
)
def test_a_second_ctrl_c_or_sigterm_ends_the_run_at_once_and_other_signals_may_come_twice(
    fatbench: Fatbench,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    numbers: tuple[int, ...],
    code: int,
    steps: int,
) -> None:
    signal_at(monkeypatch, 13, *numbers)
    said = fatbench(*RUN)
    path, record = the_record(tmp_path)
    assert (said.code, record.status) == (code, "interrupted")
    assert read_checkpoint(path.parent / record.id / CHECKPOINT).steps == steps


def test_what_nohup_starts_goes_on_when_the_terminal_closes(
    fatbench: Fatbench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    signal_at(monkeypatch, 13, signal.SIGHUP)
    assert (fatbench(*RUN).code, the_record(tmp_path)[1].status) == (0, "finished")


def _on_terminal(terminal: str, *arguments: object) -> None:
    for stream in (1, 2):
        os.dup2(os.open(terminal, os.O_WRONLY | os.O_NOCTTY), stream)
    sys.stdout, sys.stderr = os.fdopen(1, "w"), os.fdopen(2, "w")  # those there are were of a file
    processes.fatbench(*arguments)


def test_a_terminal_that_closes_ends_a_run_as_sigterm_does(tmp_path: Path) -> None:
    screen, terminal = os.openpty()
    arguments = ("run", "-m", "standard", "--time-budget", "10h", "-q", "--calibration", "0")
    log = tmp_path / "log"
    process = processes.fork(_on_terminal, os.ttyname(terminal), *arguments, cwd=tmp_path, log=log)
    while process.is_alive() and not any((tmp_path / "results").glob("*/state.safetensors")):
        time.sleep(0.05)
    os.close(terminal)
    os.close(screen)
    os.kill(process.pid or 0, signal.SIGHUP)
    assert processes.end(process, log).code == 75
    path, record = the_record(tmp_path)
    assert record.status == "interrupted"
    assert read_checkpoint(path.parent / record.id / CHECKPOINT).steps == record.steps > 0


def test_an_evaluation_of_weights_that_is_warned_twice_says_how_to_resume(
    fatbench: Fatbench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fatbench(*RUN)
    (weights,) = tmp_path.glob("results/*/model.safetensors")
    close = RecordWriter.close

    def warned(*arguments: Any) -> None:
        os.kill(os.getpid(), signal.SIGUSR1)
        close(*arguments)

    monkeypatch.setattr(Evaluator, "evaluate", lambda *_, **__: os.kill(os.getpid(), signal.SIGUSR1))
    monkeypatch.setattr(RecordWriter, "close", warned)
    said = fatbench("eval", weights, "--eval", "clean", "-q", "-o", "scored")
    assert said.code == 75
    assert said.complaint.endswith("; the same command resumes the evaluation")
    assert [load(path).status for path in Path("scored").glob("*.json")] == ["interrupted"]


@pytest.mark.parametrize(("number", "code"), SOME)
def test_in_an_evaluation_a_signal_ends_the_run_at_once(
    fatbench: Fatbench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, code: int
) -> None:
    with monkeypatch.context() as patched:
        evaluate = Evaluator.evaluate

        def signalled(evaluator: Evaluator, *args: object, **options: object) -> object:
            if len(evaluator.x) == 497:  # test images, not a probe's
                os.kill(os.getpid(), number)
            return evaluate(evaluator, *args, **options)  # type: ignore[arg-type]

        patched.setattr(Evaluator, "evaluate", signalled)
        said = fatbench(*RUN)
    path, record = the_record(tmp_path)
    assert (said.code, record.status, record.budget.stopped_by) == (code, "interrupted", "epochs")
    assert said.complaint.endswith(f"; fatbench resume {record.id} resumes the evaluation")
    assert "already trained" in fatbench("resume", path, "--quiet", "--calibration", "0").complaint
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
        assert f"fatbench resume {path.stem} --output {output} resumes" in said.complaint
        arguments = (*again, running if running.exists() else path, "-q", "--calibration", "0")
        said = fatbench(*arguments) if again == ("resume",) else fatbench(*again, "--force")
        assert said.complaint.startswith("resumes at step 13, after ")
        assert load(path).status == "finished"
        assert not running.exists()


def test_a_finished_run_is_not_resumed_and_an_unknown_one_is_one_line(fatbench: Fatbench, tmp_path: Path) -> None:
    fatbench(*RUN)
    path, record = the_record(tmp_path)
    said = fatbench("resume", record.id, "-q")
    assert said.code == 0
    assert said.complaint == "already finished: nothing to resume; `fatbench run ... --force` runs it again"
    for wrong in ("nope", f"{record.id}x"):
        said = fatbench("resume", wrong)
        assert (said.code, said.complaint) == (2, f"no run '{wrong}' in results; none is unfinished there")
    for wrong in ("../nope", "nope.json", "results/nope/", "gone/running.json"):
        said = fatbench("resume", wrong)
        assert (said.code, said.complaint) == (2, f"{Path(wrong)} does not exist")
    said = fatbench("resume", record.id, "-o", "elsewhere")
    assert (said.code, said.complaint) == (2, f"no run '{record.id}': elsewhere does not exist")
    said = fatbench("resume", path.relative_to(tmp_path), "-o", "elsewhere")
    assert (said.code, said.complaint) == (
        2,
        f"results/{record.id}.json lies in results, not in elsewhere: leave out --output",
    )
    path.write_text("{}")
    said = fatbench("resume", record.id)
    assert "is not a fatbench record" in said.complaint
    assert said.complaint.endswith("there is no checkpoint to resume from: `fatbench run ... --force` starts it again")


def test_another_spec_is_refused_in_one_line(
    fatbench: Fatbench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        signal_at(patched, 13, signal.SIGTERM)
        fatbench(*RUN)
    said = fatbench(*RUN, "--resume", "--epochs", "3")
    assert said.code == 2
    assert "differs in epochs (2, not 3); give the same, or leave out --resume to start from scratch" in said.complaint


NET = "import torch\n\n\ndef net():\n    return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 10))\n"
METHOD = """
import torch.nn.functional as F

def mine(model, batch, ctx):
    x, y, _ = batch
    yield F.cross_entropy(model(x), y)
"""
OWN = (*RUN[:1], "-m", "./mine.py", "--model", "net.py:net", *RUN[3:])


@pytest.fixture
def unfinished(fatbench: Fatbench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Said, Record]:
    """Leave off a run of a method and a model of a user's own; return what was said, and its record."""
    (tmp_path / "mine.py").write_text(METHOD)
    (tmp_path / "net.py").write_text(NET)
    with monkeypatch.context() as patched:
        signal_at(patched, 13, signal.SIGTERM)
        said = fatbench(*OWN, "--data-dir", "my data")
    return said, the_record(tmp_path)[1]


def test_ones_own_code_runs_when_one_names_it_and_the_line_that_is_printed_does(
    fatbench: Fatbench, tmp_path: Path, unfinished: tuple[Said, Record]
) -> None:
    said, record = unfinished
    refused = fatbench("resume", record.id, "--quiet")
    assert (refused.code, refused.complaint) == (
        2,
        f"{record.id} runs code that its record names: if it is yours, add --method ./mine.py --model net.py:net",
    )
    assert fatbench("resume", record.id, "--model", "other.py:net", "-m", "mine.py").complaint == (
        f"cannot resume {record.id}: it is of --model net.py:net, not other.py:net"
    )
    again = said.complaint.partition("; fatbench ")[2].removesuffix(" resumes")
    assert again == f"resume {record.id} --method ./mine.py --model net.py:net --data-dir 'my data'"
    assert fatbench(*shlex.split(again), "--quiet", "--calibration", "0").code == 0


def test_an_evaluation_is_promised_only_where_training_is_over(
    fatbench: Fatbench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Weights are kept a moment before the record says that they may be relied on."""
    with monkeypatch.context() as patched:
        signal_at(patched, 13, signal.SIGTERM)
        fatbench(*RUN)
    path, left = the_record(tmp_path)
    results = Path("results")
    for stopped_by, end in (
        ("interrupted", f"fatbench resume {left.id} resumes"),
        ("epochs", "resumes the evaluation"),
    ):
        budget = left.budget.model_copy(update={"stopped_by": stopped_by})
        save(left.model_copy(update={"artefacts": {"weights": "x/model.safetensors"}, "budget": budget}), path.parent)
        assert report_interrupted(left.spec, RunOptions(output=results), 75) == 75
        assert capsys.readouterr().err.strip().endswith(end)


def test_nothing_runs_that_only_a_record_names(fatbench: Fatbench, tmp_path: Path, unfinished: object) -> None:
    path, record = the_record(tmp_path)
    path.unlink()
    evil = "import pathlib\npathlib.Path('ran').touch()\n\n\ndef evil(model, batch, ctx): yield model(batch.x).sum()\n"
    (tmp_path / "evil.py").write_text(evil)
    for field, name in (("method", "./evil.py"), ("model", "evil.py:evil"), ("model", "evil:evil")):
        source = {f"{field}_source": hashlib.sha256(evil.encode()).hexdigest()}
        spec = record.spec.replace(**{field: name}, **source)
        save(record.model_copy(update={"id": spec.id, "spec": spec}), path.parent)
        assert "runs code that its record names" in fatbench("resume", spec.id).complaint
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("file", ["net.py", "mine.py"])
def test_edited_code_is_not_gone_on_with(
    fatbench: Fatbench, tmp_path: Path, unfinished: tuple[Said, Record], file: str
) -> None:
    with (tmp_path / file).open("a") as source:
        source.write("# edited\n")
    name = {"net.py": "net.py:net", "mine.py": "./mine.py"}[file]
    run_id = unfinished[1].id
    said = fatbench("resume", run_id, "--model", "net.py:net", "--method", "./mine.py", "--quiet")
    assert (said.code, said.complaint) == (2, f"cannot resume {run_id}: the source of {name} is not what it was")


def test_a_result_is_shown_and_not_run_again_whatever_has_changed(
    fatbench: Fatbench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fatbench(*RUN)
    path, record = the_record(tmp_path)
    content = json.loads(path.read_text())
    content["method"]["sha256"] = "0" * 64  # as if an upgrade had brought another
    path.write_text(json.dumps(content))
    before = path.read_bytes()
    said = fatbench("resume", record.id, "-q")
    assert (said.code, path.read_bytes()) == (0, before)
    assert said.complaint.startswith("already finished: ")
    assert record.id[:20] in said.out or "fgsm-rs" in said.out


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
    *_, last = said.err.splitlines()
    assert last == "fatbench: the same command with --resume runs what is left"
    ends = [line.split()[1:] for line in said.err.splitlines()[-5:-1]]
    assert ends == [
        ["failed", "bad", "seed", "0"],
        ["failed", "bad", "seed", "1"],
        ["interrupted", "standard", "seed", "0"],
        ["not", "started", "standard", "seed", "1"],
    ]
    stored = [load(path) for path in (tmp_path / "results").glob("*.json")]
    assert sorted(record.status for record in stored) == ["failed", "failed", "interrupted"]


def test_a_failed_run_is_listed_beside_the_others(fatbench: Fatbench, tmp_path: Path) -> None:
    (tmp_path / "bad.py").write_text("def bad(model, batch, ctx): yield from ()")
    said = fatbench("run", "-m", "standard", "-m", "./bad.py", *TINY)
    assert said.code == 4
    assert [line.split()[1] for line in said.err.splitlines()[-2:]] == ["finished", "failed"]


def test_a_signal_between_two_runs_ends_the_session_with_its_list(
    fatbench: Fatbench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from fatbench.cli import session

    show = session.print_result

    def signalled(*arguments: Any) -> None:
        show(*arguments)
        os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(session, "print_result", signalled)
    said = fatbench("run", "-m", "standard", "--seeds", "0,1", *TINY, "--panel")
    assert said.code == 75
    assert [line.split()[1:-2] for line in said.err.splitlines()[-3:-1]] == [
        ["finished", "standard"],
        ["not", "started", "standard"],
    ]


# Signals


@pytest.mark.parametrize(("number", "code"), SOME)
@pytest.mark.parametrize("module", ["typer", "torch"])
def test_a_signal_while_packages_are_imported_is_one_line(tmp_path: Path, number: int, code: int, module: str) -> None:
    """The package is exchanged for what sends the signal as soon as it is asked for anything."""
    trap = f"import os\nos.kill(os.getpid(), {int(number)})\n"
    (tmp_path / f"{module}.py").write_text(trap)
    command = [
        sys.executable,
        "-c",
        "import signal; signal.signal(2, signal.default_int_handler);"
        "import sys; sys.argv = ['fatbench', 'run', '-m', 'standard']; from fatbench.cli import main; main()",
    ]
    path = os.pathsep.join([str(tmp_path), str(Path(__file__).parents[2])])
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env={**os.environ, "PYTHONPATH": path})
    assert (done.returncode, done.stderr, done.stdout) == (code, "fatbench: interrupted\n", "")


def test_other_threads_have_no_signals_and_ignored_ones_stay_ignored() -> None:
    seen: list[object] = []

    def enter() -> None:
        with cancel_on_signals():
            seen.append(signal.getsignal(signal.SIGTERM))

    before = signal.getsignal(signal.SIGTERM)
    thread = threading.Thread(target=enter)
    thread.start()
    thread.join()
    assert seen == [before]
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with cancel_on_signals():
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
        assert signal.getsignal(signal.SIGTERM) is not before
    assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
