"""The live line at any width, and what is said of several runs: which one is under way, and the time for all."""

import io
import re
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.console import Console

from fatbench.cli.overall import Overall
from fatbench.cli.progress import ProgressObserver
from fatbench.config.request import Request, RunOptions
from fatbench.config.resolve import resolve
from fatbench.config.spec import RunSpec
from fatbench.evaluation.eval_result import EvalProgress
from fatbench.record import Record, load
from fatbench.training.loop import TrainStatus
from tests.cli.conftest import TINY, Said

Fatbench = Callable[..., Said]
STATUS = TrainStatus(
    steps=50, batches=50, epoch=13, progress=0.04, train_seconds=31.25, lr=0.2, loss=1.2345
)  # 12 min 30 s are left
ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


def specs(*methods: str, seeds: str = "0") -> list[RunSpec]:
    return resolve(Request(methods=methods, seeds=seeds), device="cpu")


def last_frame(width: int, title: str, overall: Overall | None, show: Callable[[ProgressObserver], None]) -> list[str]:
    file = io.StringIO()
    console = Console(width=width, file=file, force_terminal=True, legacy_windows=False)
    with ProgressObserver(console, title, overall=overall) as observer:
        show(observer)
    frame = file.getvalue().rpartition("\x1b[?25h")[0]  # what follows wipes it away
    return [line.rstrip() for line in re.split(r"[\r\n]+", ESCAPES.sub("", frame)) if line.strip()][-2:]


@pytest.mark.parametrize("width", [60, 80, 120])
@pytest.mark.parametrize("several", [False, True])
def test_loss_rate_and_time_left_are_in_the_line(tmp_path: Path, width: int, several: bool) -> None:
    overall = Overall(specs("fast-trades", seeds="8,9,10"), RunOptions(output=tmp_path)) if several else None
    *_, line = frame = last_frame(width, "fast-trades seed 10", overall, lambda one: one.training(STATUS, 13_483.0))
    assert ("run 1 of 3" in frame[0]) is several
    assert len(line) <= width
    for fact in ("fast-trades", "loss 1.234", "13,483 images/s", "12 min 30 s left"):
        assert fact in line
    assert ("…" in line, "epoch 13  loss" in line) == (width == 60, width == 120)


@pytest.mark.parametrize("width", [60, 80, 120])
def test_so_is_the_time_that_an_attack_has_left(width: int) -> None:
    progress = EvalProgress(150, 200, "apgd-t, chunk 1 of 2", 72.0)

    def show(observer: ProgressObserver) -> None:
        observer.expecting("autoattack", 200, 131.6, "pgd-20")
        observer.evaluating("autoattack", progress)

    *_, line = last_frame(width, "bs-trades seed 0", None, show)
    assert len(line) <= width
    assert "1 min 12 s left of it" in line
    assert "bs-trades seed 0: evaluating auto" in line
    assert ("apgd-t, chunk 1 of 2" in line) is (width == 120)
    progress = progress._replace(seconds_left=None)  # as in the first chunk of each attack
    assert "about 2 min 12 s in all" in last_frame(width, "bs-trades seed 0", None, show)[-1]


@pytest.mark.parametrize("width", [60, 80, 120])
def test_so_is_the_time_left_for_all_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, width: int) -> None:
    runs = specs("fast-trades", seeds="8-10")
    overall = Overall(runs, RunOptions(output=tmp_path))
    overall.begin(runs[1])
    monkeypatch.setattr(overall, "_seconds", {"": [400.0]})

    def show(observer: ProgressObserver) -> None:
        observer.expecting("autoattack", 200, 700.0, "pgd-20")
        observer.evaluating("autoattack", EvalProgress(0, 200, "apgd-ce, chunk 1 of 2"))

    above, line = last_frame(width, "fast-trades seed 9", overall, show)
    assert re.fullmatch(r".* run 2 of 3 .* about 18 min (20|19) s left for all runs", above)  # 700 s, and 400 s
    assert "fast-trades seed 9: e" in line
    assert "about 11 min 40 s in all" in line


@pytest.mark.parametrize("terminal", [False, True])
def test_a_long_attack_is_said_beforehand_and_a_short_one_is_not(terminal: bool) -> None:
    file = io.StringIO()
    with ProgressObserver(Console(file=file, width=80, force_terminal=terminal), "trades seed 0") as observer:
        observer.expecting("autoattack", 200, 14.0, "pgd-20")
        assert "autoattack" not in file.getvalue()
        observer.expecting("autoattack", 1200, 131.6, "pgd-20")
    assert "trades seed 0: autoattack on 1,200 images: about 2 min 12 s at the pace of pgd-20\n" in file.getvalue()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    return now


def test_the_time_for_all_is_what_this_command_has_measured(
    fatbench: Fatbench, tmp_path: Path, clock: list[float]
) -> None:
    fatbench("run", "-m", "standard", "--seeds", "1", *TINY)
    (path,) = (tmp_path / "results").glob("*.json")
    stored: Record = load(path)

    def result(spec: RunSpec, status: str = "finished") -> Record:
        return stored.model_copy(update={"spec": spec, "status": status})

    flags = {"epochs": 1, "evaluate": ["clean"]}
    asked = Request(methods=["standard", "fgsm"], seeds="0-3", settings=flags)
    runs = resolve(asked, device="cpu")
    overall = Overall(runs, RunOptions(output=tmp_path / "results"))
    overall.begin(runs[0])
    clock[0] += 7
    assert overall.seconds_left(3.0) is None  # nothing is known yet
    clock[0] += 3
    overall.finished(result(runs[0]))
    overall.begin(runs[1])
    assert overall.seconds_left() == 60  # six times ten: seed 1 is stored
    overall.finished(result(runs[1]))
    overall.begin(runs[2])
    clock[0] += 4
    assert overall.seconds_left() == 56
    clock[0] += 4
    overall.finished(result(runs[2], "diverged"))  # early, and no measure of the others
    overall.begin(runs[4])
    clock[0] += 20
    assert (overall.seconds_left(), overall.seconds_left(2.0)) == (30, 32)
    overall.finished(result(runs[4]))
    overall.begin(runs[5])
    assert overall.seconds_left() == 60
    assert Overall(runs, RunOptions(output=tmp_path / "results", force=True))._stored == [False] * 8


def test_several_runs_are_a_line_each_and_a_table(fatbench: Fatbench, tmp_path: Path) -> None:
    (tmp_path / "bad.py").write_text("def bad(model, batch, ctx): yield from ()")
    loud = [word for word in TINY if word != "--quiet"]
    said = fatbench("run", "-m", "standard", "-m", "./bad.py", "-m", "fgsm", *loud)
    assert said.code == 4
    lines = said.out.splitlines()
    assert [re.sub(r"[0-9.]+( s |%)", r"#\1", line) for line in lines[:2]] == [
        "1/3 standard seed 0  # s  clean #%",
        "3/3 fgsm seed 0  # s  clean #%",
    ]
    assert "x faster" in said.out
    assert lines[-1] == "records in results: `fatbench show RESULT.json` prints one in full"
    begun = [line for line in said.err.splitlines() if re.match("run . of 3", line)]
    assert begun[0] == "run 1 of 3: standard seed 0"
    assert re.fullmatch("run 2 of 3: bad seed 0, about .* s left for all runs", begun[1])
    assert "fatbench: bad seed 0: " in said.err
    assert "╭" not in said.out
    again = fatbench("run", "-m", "standard", "-m", "fgsm", *TINY, "--panel")
    assert again.out.count("╭") == 2
    assert "1/2 standard" not in again.out
    assert "╭" in fatbench("run", "-m", "standard", *TINY).out  # a single one keeps its panel


def test_the_line_of_a_diverged_run_says_so(fatbench: Fatbench) -> None:
    said = fatbench("run", "-m", "standard,fgsm", *TINY, "--lr", "1e12")
    assert said.code == 4
    assert [line.partition("  ")[2].split()[0] for line in said.out.splitlines()[:2]] == ["diverged"] * 2
    assert [line.split()[1] for line in said.err.splitlines()] == ["diverged"] * 2


def test_runs_at_several_radii_are_told_apart(fatbench: Fatbench) -> None:
    said = fatbench("run", "-m", "standard", "--eps", "4/255,8/255", *TINY)
    assert [line.partition("  ")[0] for line in said.out.splitlines()[:2]] == [
        "1/2 standard eps 4/255 seed 0",
        "2/2 standard eps 8/255 seed 0",
    ]
