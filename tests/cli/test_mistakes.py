"""Every mistake of a user ends in one clear line, with the remedy, and the right exit code."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from fatbench.record import load
from tests import processes
from tests.cli.conftest import TINY, Said

Fatbench = Callable[..., Said]
RUN = ("run", "-m", "fgsm-rs", *TINY)
SEEDS = "--seeds takes whole numbers such as 0,1,2 or ranges such as 0-4"
USAGE, INVALID, RESOURCES, INTERRUPTED = 2, 4, 6, 130


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (("run", "-m", "bs-trade"), "no method 'bs-trade': there are aaer, atta, bs-at, bs-trades"),
        (("run",), "which method? Give --method NAME: aaer, atta, "),
        (("run", "-m", "bs-trades", "--set", "bta=8"), "bs-trades has no 'bta'; it has steps, alpha, beta, gamma"),
        (("run", "-m", "bs-trades", "--set", "beta=high"), "bs-trades: 'beta' takes a number, not 'high'"),
        (("run", "-m", "bs-trades", "--set", "beta=nan"), "bs-trades: 'beta' must be finite and not negative, not nan"),
        (("run", "-m", "pgd-at", "--set", "alpha=-1"), "pgd-at: 'alpha' must be finite and not negative, not -1"),
        (("run", "-m", "pgd-at", "--set", "steps=0"), "pgd-at: 'steps' is a count, at least 1, not 0"),
        (("run", "-m", "pgd-at", "--set", "steps"), "--set takes NAME=VALUE, or METHOD.NAME=VALUE, not 'steps'"),
        (("run", "-m", "pgd-at", "--set", "trades.beta=2"), "trades is not among the methods to run (pgd-at)"),
        (
            ("run", "-m", "pgd-at", "--set", "steps=2", "--set", "alpha=1", "--set", "steps=3"),
            "--set steps is given twice, as 2 and as 3: leave one out",
        ),
        (
            ("run", "-m", "pgd-at", "--set", "pgd-at.steps=2", "--set", "pgd_at.steps=3"),
            "--set pgd-at.steps is given twice, as 2 and as 3: leave one out",
        ),
        (
            ("resume", "some-id", "-m", "./mine.py", "--method", "trades"),
            "a run has one method: --method ./mine.py and trades are 2, leave out all but one",
        ),
        (("run", "-m", "fgsm", "--eps", "8"), "eps 8 is beyond the pixels' range [0, 1]; did you mean 8/255?"),
        (("run", "-m", "fgsm", "--eps", "eight"), "eps is a number or a fraction such as 8/255, not 'eight'"),
        (("run", "-m", "fgsm", "--eps", "0"), "eps is positive, not 0"),
        (("run", "-m", "fgsm", "--norm", "l2", "--eps", "1"), "fgsm is defined for --norm linf only"),
        (("run", "-m", "pgd-at", "--norm", "l2"), "--norm l2 needs --eps: 51/255 is meant for linf"),
        (("run", "-m", "pgd-at", "--preset", "cifar10", "--norm", "l2"), "--norm l2 needs --eps: 8/255 is meant for"),
        (("run", "--preset", "rice2020-pgd-at", "--norm", "l2"), "--norm l2 needs --eps: 8/255 is meant for linf"),
        (("run", "-m", "fgsm", "--norm", "l7"), "--norm must be one of 'linf' or 'l2'"),
        (
            ("run", "-m", "fgsm", "--epochs", "1", "--time-budget", "1m"),
            "a run has one budget: --epochs or --time-budget",
        ),
        (("run", "-m", "fgsm", "--time-budget", "soon"), "a time budget looks like 90s, 10m or 1h, not 'soon'"),
        (("run", "-m", "fgsm", "--epochs", "0"), "--epochs must be at least 1"),
        (("run", "-m", "fgsm", "--epochs", "many"), "Invalid value for '--epochs'"),
        (("run", "-m", "fgsm", "--epoch", "3"), "No such option: --epoch"),
        (("run", "-m", "fgsm", "--seeds", "0;1"), f"{SEEDS}, not '0;1'"),
        (("run", "-m", "fgsm", "--seeds", "0..4"), f"{SEEDS}, not '0..4'"),
        (("run", "-m", "fgsm", "--seeds", "0-"), f"{SEEDS}, not '0-'"),
        (("run", "-m", "fgsm", "--seeds", "4-0"), "--seeds 4-0 runs backwards: write 0-4"),
        (("run", "-m", "fgsm", "--seeds", "0-99999999999"), "--seeds 0-99999999999 are more than 1000 seeds"),
        (("run", "-m", "fgsm", "--seeds", "0-999,2000"), "--seeds 0-999,2000 are more than 1000 seeds: name fewer"),
        (("run", "-m", "fgsm", "--seed", "0", "--seeds", "1,2"), "--seeds is given 2 times: write --seeds 0,1,2"),
        (("run", "-m", "fgsm", "--seed", "0", "--seed", "1"), "--seeds is given 2 times: write --seeds 0,1"),
        (("run", "-m", "fgsm,bs-trade"), "no method 'bs-trade': there are aaer"),
        (("run", "-m", "fgsm,"), "no method ''"),
        (("run", "-m", "all", "--set", "beta=3"), "aaer has no 'beta'; for one method alone: --set atta.beta=3"),
        (
            ("run", "-m", "all", "--norm", "l2", "--eps", "1"),
            "aaer is defined for --norm linf only: name the methods to run instead of --method all",
        ),
        (("run", "-m", "fgsm", "--eps", "4/255,8"), "eps 8 is beyond the pixels' range [0, 1]; did you mean 8/255?"),
        (("run", "-m", "fgsm", "--eps", "4;8"), "eps is a number or a fraction such as 8/255, not '4;8'"),
        (("run", "-m", "fgsm", "--seeds", "-1"), "--seeds must be at least 0"),
        (("run", "-m", "fgsm", "--lr", "inf"), "--lr must be finite"),
        (("run", "-m", "fgsm", "--schedule", "linear"), "--schedule must be one of 'piecewise', 'cyclic'"),
        (("run", "-m", "fgsm", "--precision", "fp8"), "--precision must be one of 'fp32' or 'bf16'"),
        (("run", "-m", "fgsm", "--device", "tpu"), "no device 'tpu': there are auto, cpu, cuda, cuda:INDEX and mps"),
        (("run", "-m", "fgsm", "--eval", "pgd"), "no evaluation 'pgd': there are clean, fgsm, pgd-STEPS"),
        (("run", "-m", "fgsm", "--eval-samples", "few"), "--eval-samples takes a number of images or all, not 'few'"),
        (("run", "--preset", "wong"), "no preset 'wong': there are "),
        (("run", "--preset", "mine.toml"), "cannot read mine.toml: No such file"),
        (("run", "-m", "fgsm", "--model", "resnet81"), "no model 'resnet81': there are small-cnn, resnet18"),
        (("run", "-m", "fgsm", "--model", "no_such_package:net"), "no module 'no_such_package': install it"),
        (("run", "-m", "fgsm", "-d", "cifar11"), "no dataset 'cifar11': there are digits, "),
        (("run", "-m", "fgsm", "-d", ""), "dataset: String should have at least 1 character"),
        (("run", "-m", "fgsm", "-d", "mine.npz"), "cannot read mine.npz: No such file"),
        (("run", "-m", "fgsm", "--batch-size", "5000"), "--batch-size 5000 is more than the 1200 training images"),
        (("run", "-m", "fgsm", "--limit-train", "99999"), "--limit-train 99999: digits has 1200 training images"),
        (("run", "-m", "./mine.py"), "no method file ./mine.py"),
        (("list", "attacks"), "'attacks' is not one of 'methods'"),
        (("show", "bs-trade"), "no method 'bs-trade'"),
        (("show", "gone.json"), "cannot read gone.json: No such file or directory"),
        (("compare", "gone.json"), "cannot read gone.json: No such file or directory"),
        (("compare", "gone/*.json"), "no records match 'gone/*.json'"),
        (("compare",), "Missing argument"),
        (("trian",), "No such command 'trian'"),
    ],
)
def test_usage(fatbench: Fatbench, arguments: tuple[str, ...], line: str) -> None:
    said = fatbench(*arguments, *(["--quiet"] if arguments[0] == "run" else []))
    assert line in said.complaint
    assert said.code == USAGE


@pytest.mark.parametrize(
    ("content", "line"),
    [
        ("lr = ", "mine.toml is not valid TOML"),
        ("seed = 3", "mine.toml: no setting 'seed'; there are autoattack_samples, awp, batch_size, "),
        ("hyper = 3", "mine.toml: hyper: Input should be a valid dictionary"),
        ("evaluate = 'clean'", "mine.toml: evaluate: Input should be a valid list"),
        ("method = ['fgsm']", "mine.toml: method: Input should be a valid string"),
        ("learning_rate = 0.1", "mine.toml: no setting 'learning_rate'; there are autoattack_samples, awp, "),
        ("eps = 'eight'", "mine.toml: eps is a number or a fraction such as 8/255, not 'eight'"),
        ("lr = -1.0", "mine.toml: --lr must be more than 0, not -1.0"),
        ("[hyper.fgsm]\nbta = 8", "fgsm has no 'bta'; it has alpha"),
        ("[hyper.pgd_at]\n[hyper.nope]", "mine.toml: [hyper.nope] is of no method; there are aaer, atta, "),
    ],
)
def test_a_preset_of_her_own(fatbench: Fatbench, tmp_path: Path, content: str, line: str) -> None:
    (tmp_path / "mine.toml").write_text(content)
    said = fatbench("run", "--preset", "mine.toml", "-m", "fgsm", "--quiet")
    assert line in said.complaint
    assert said.code == USAGE


def test_a_preset_takes_values_as_the_command_line_does(fatbench: Fatbench, tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text(
        'milestones = "0.2,0.4"\nschedule = "piecewise"\neps = 0.2\ntime_budget = "1m"\n'
    )
    (spec,) = json.loads(fatbench("run", "--preset", "mine.toml", "-m", "fgsm", "--dry-run").out)
    train = spec["train"]
    assert (spec["eps"], train["milestones"], train["train_seconds"]) == ("51/255", ["1/5", "2/5"], 60.0)


@pytest.mark.parametrize(
    "name", ["--model=resnet81", "--model=gone.py:net", "--dataset=cifar11", "--dataset=wong2020-fgsm-rs"]
)
def test_a_dry_run_knows_names(fatbench: Fatbench, name: str) -> None:
    assert fatbench("run", "-m", "fgsm", "--dry-run", name).code == USAGE


def test_the_reader_of_the_output_may_go_away(tmp_path: Path) -> None:
    command = f"{sys.executable} -m fatbench list methods | head -c 1; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    flags = "--seeds 0,1 --epochs 1 --limit-train 256 --eval clean --calibration 0 -q"
    command = f"{sys.executable} -m fatbench run -m fgsm {flags} | head -c 1; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, b"")
    assert len(list((tmp_path / "results").glob("*.json"))) == 2  # runs go on unseen
    (tmp_path / "bad.json").write_text("{}")
    for format_ in ("table", "markdown", "json"):  # and exit codes stay what they are
        reader, writer = os.pipe()
        os.close(reader)
        command = [sys.executable, "-m", "fatbench", "compare", "results", "bad.json", "--format", format_]
        assert subprocess.run(command, stdout=writer, stderr=subprocess.DEVNULL, cwd=tmp_path).returncode == USAGE
        os.close(writer)


def test_no_command_shows_the_help_and_nothing_else(fatbench: Fatbench) -> None:
    said = fatbench()
    assert "Usage" in said.out + said.err
    assert "fatbench: \n" not in said.err


@pytest.mark.parametrize(
    ("content", "line"),
    [
        ("", "bad.json is not a fatbench record: it is not valid JSON"),
        ('{"schema": 1, "spec"', "bad.json is not a fatbench record: it is not valid JSON"),
        (
            '{"name": "left-pad", "version": "1.3.0"}',
            "bad.json is not a fatbench record: it has no 'schema' and 'spec'",
        ),
        ("[1, 2]", "bad.json is not a fatbench record"),
        ('{"schema": 99, "spec": {}}', "bad.json has schema 99; this fatbench reads up to 4: upgrade fatbench"),
        ('{"schema": 1, "spec": {}}', "bad.json is not a valid record: "),
    ],
)
@pytest.mark.parametrize("command", ["compare", "show"])
def test_what_is_no_record(fatbench: Fatbench, tmp_path: Path, command: str, content: str, line: str) -> None:
    (tmp_path / "bad.json").write_text(content)
    said = fatbench(command, "bad.json")
    assert line in said.complaint
    assert said.code == USAGE


def test_missing_data_says_what_to_do(fatbench: Fatbench, tmp_path: Path) -> None:
    said = fatbench(*RUN, "-d", "cifar10", "--data-dir", tmp_path / "data")
    assert "--download" in said.complaint
    assert str(tmp_path / "data") in said.complaint
    assert said.code == RESOURCES


def test_wrong_shaped_npz(fatbench: Fatbench, tmp_path: Path) -> None:
    x, y = np.zeros((8, 3), np.uint8), np.arange(8) % 2
    np.savez(tmp_path / "flat.npz", x_train=x, y_train=y, x_test=x, y_test=y)
    said = fatbench(*RUN, "-d", "flat.npz")
    assert "flat.npz" in said.complaint
    assert "x_train" in said.complaint
    assert said.code == USAGE


def test_output_that_cannot_be_written(fatbench: Fatbench, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    said = fatbench(*RUN, "--output", "file/results")
    assert "cannot write" in said.complaint
    assert "choose another --output" in said.complaint
    assert said.code == RESOURCES


@pytest.mark.skipif(torch.cuda.is_available(), reason="says what a machine without a GPU says")
def test_no_gpu(fatbench: Fatbench) -> None:
    said = fatbench(*RUN, "--device", "cuda")
    assert "no GPU 'cuda': torch sees 0; use --device cpu" in said.complaint
    assert said.code == RESOURCES


@pytest.mark.parametrize(
    ("source", "line", "code"),
    [
        ("def mine(model, batch, ctx:", "mine.py is not valid Python", USAGE),
        ("def other(model, batch, ctx): yield 0", "mine.py holds no method: it needs a function 'def mine(", USAGE),
        ("import no_such_thing\ndef mine(model, batch, ctx): yield 0", "mine.py fails to import", USAGE),
        ("def mine(model, batch, ctx): return 0", "'mine' yields no losses", USAGE),
        ("def mine(model, batch, ctx): yield from ()", "mine yields no loss: nothing would be trained", INVALID),
        (
            "def mine(model, batch, ctx): yield model(batch.x)",
            "mine yields a loss of shape (128, 10), not a scalar",
            INVALID,
        ),
        ("def mine(model, batch, ctx, *, k=1): yield 0", "'k' needs a default and one of the types", USAGE),
        ("def mine(model, batch, ctx): yield batch.z", "mine.py:1: AttributeError: 'Batch' object has no", INVALID),
    ],
)
def test_a_method_of_her_own(fatbench: Fatbench, tmp_path: Path, source: str, line: str, code: int) -> None:
    (tmp_path / "mine.py").write_text(source)
    said = fatbench("run", "-m", "./mine.py", *TINY)
    assert line in said.complaint
    assert said.code == code


def test_a_model_of_her_own_that_fails(fatbench: Fatbench, tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text("def net(num_classes): return 3\ndef broken(): return 1 / 0\n")
    assert "net.py:net" in fatbench(*RUN, "--model", "net.py:net").complaint
    said = fatbench(*RUN, "--model", "net.py:broken")
    assert "ZeroDivisionError" in said.complaint
    assert said.code == USAGE


def test_a_diverged_run_is_a_result_with_its_own_exit_code(fatbench: Fatbench, tmp_path: Path) -> None:
    said = fatbench("run", "-m", "standard", "--epochs", "2", "--lr", "1e30", "--schedule", "constant", "-q")
    assert said.code == INVALID
    (path,) = (tmp_path / "results").glob("*.json")
    record = load(path)
    assert (record.status, record.budget.stopped_by) == ("diverged", "diverged")
    assert [event.kind for event in record.events] == ["diverged"]
    assert not record.scores
    assert "diverged" in fatbench("compare", path).out


def test_one_failing_run_does_not_take_the_others_down(fatbench: Fatbench, tmp_path: Path) -> None:
    (tmp_path / "bad.py").write_text("def bad(model, batch, ctx): yield from ()")
    said = fatbench("run", "-m", "./bad.py", "-m", "standard", *TINY)
    assert "bad seed 0: bad yields no loss" in said.err
    assert said.code == INVALID
    finished = [load(path).method.name for path in (tmp_path / "results").glob("*.json") if load(path).is_result]
    assert finished == ["standard"]


def test_ctrl_c_keeps_what_was_earned(tmp_path: Path) -> None:
    log = tmp_path / "said.log"
    arguments = ("run", "-m", "standard", "--time-budget", "10h", "-o", tmp_path)
    process = processes.fork(processes.fatbench, *arguments, cwd=tmp_path, log=log)
    while process.is_alive():  # until there is something to lose
        records = list(tmp_path.glob("*.json"))
        if records and load(records[0]).history:
            break
        time.sleep(0.05)
    os.kill(process.pid or 0, signal.SIGINT)
    ended = processes.end(process, log)
    assert ended.code == INTERRUPTED
    assert "Traceback" not in ended.said
    assert ended.said.strip().splitlines()[-1].startswith("fatbench: interrupted; partial results are in ")
    record = load(records[0])
    assert (record.status, record.budget.stopped_by) == ("interrupted", "interrupted")
    assert record.history
