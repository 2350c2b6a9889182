"""Every command of README and docs/usage.md is run, its method is trained, its table is the committed records'."""

import re
import runpy
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from fatbench.cli import main
from scripts import orderings, readme
from tests.runner.steady import let_steps_take

ROOT = Path(__file__).parent.parent
FEW = {  # images and batches: what is tested is that the commands run
    "run": ["--limit-train", "256", "--eval-samples", "50", "--calibration", "0"],
    "time": ["--batches", "2"],
}
README = (ROOT / "README.md").read_text(encoding="utf-8")
USAGE = (ROOT / "docs" / "usage.md").read_text(encoding="utf-8")


def _blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README + USAGE, flags=re.DOTALL)


def _commands() -> Iterator[object]:
    lines = [line for block in _blocks("bash") for line in block.splitlines()]
    for command in dict.fromkeys(line.partition(" #")[0].strip() for line in lines):
        marks = [pytest.mark.slow] if "--seeds 0,1,2" in command else []  # six runs
        yield pytest.param(command, id=command, marks=marks)


NET = """
from torch import nn


def make(num_classes, in_channels, image_size):
    features = 4 * (image_size - 2) ** 2
    return nn.Sequential(nn.Conv2d(in_channels, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(features, num_classes))
"""


def _net(file: Path) -> torch.nn.Module:
    net: torch.nn.Module = runpy.run_path(str(file))["make"](3, 3, 12)
    return net


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with what the README's reader has at hand by then."""
    generator = np.random.default_rng(0)
    x, y = generator.integers(0, 256, (300, 12, 12, 3), np.uint8), np.arange(300) % 3
    np.savez(tmp_path / "my-images.npz", x_train=x, y_train=y, x_test=x[:60], y_test=y[:60])
    (tmp_path / "my_idea.py").write_text(_blocks("python")[1])
    shutil.copytree(ROOT / "results", tmp_path / "results")
    (tmp_path / "net.py").write_text(NET)
    torch.save({"state_dict": torch.nn.DataParallel(_net(tmp_path / "net.py")).state_dict()}, tmp_path / "theirs.pt")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("command", list(_commands()))
def test_command(command: str, desk: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    program, *arguments = shlex.split(command)
    if program == "make":
        planned = subprocess.run(["make", "-n", *arguments], cwd=ROOT, check=True, capture_output=True, text=True)
        assert planned.stdout
        return
    assert program == "fatbench"
    if "--download" in arguments:  # a large download and a GPU: only what would be run
        arguments.append("--dry-run")
    arguments += FEW.get(arguments[0], [])
    if arguments[0] == "run" and "--eval" not in arguments:
        arguments += ["--eval", "clean,pgd-10"]  # AutoAttack takes a minute
    let_steps_take(monkeypatch, seconds=0.25)  # of a budget of time
    monkeypatch.setattr(sys, "argv", [program, *arguments])
    with pytest.raises(SystemExit) as exit_:
        main()
    said = capsys.readouterr()
    assert exit_.value.code == 0, said.err
    assert said.out.strip()


def test_the_python_of_the_readme_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    few = _blocks("python")[0].replace("epochs=15", "epochs=1, limit_train=256, evaluate=['clean']")
    found: dict[str, object] = {}
    exec(few, found)
    assert isinstance(found["groups"], list)
    assert len(found["groups"][0].rows) == 2


def test_make_demo_runs_exactly_the_promised_command() -> None:
    planned = subprocess.run(["make", "--no-print-directory", "-n", "demo"], cwd=ROOT, capture_output=True, text=True)
    assert planned.stdout.splitlines()[-1].endswith("fatbench run --method bs-trades --epochs 10")


def test_the_table_is_the_committed_records() -> None:
    shown = README.split(readme.BEGIN)[1].split(readme.END)[0]
    assert shown.strip() == readme.table().strip(), "run `make readme`"
    assert "bs-trades" in shown


def test_the_orders_of_methods_are_those_of_the_committed_records() -> None:
    shown = orderings.DOCUMENT.read_text().split(orderings.BEGIN)[1].split(orderings.END)[0]
    assert shown.strip() == orderings.section().strip(), "run `make readme`"
