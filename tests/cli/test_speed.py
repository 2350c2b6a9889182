"""How long the shell takes to answer: processor seconds of whole processes, the best of three, as machines are shared.

python -m pytest -m slow tests/cli/test_speed.py
"""

import json
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from fatbench.record import Record, save
from tests.report.records import probe, record

RECORDS, EPOCHS = 10_000, 15


def seconds(*arguments: str) -> float:
    """Return the processor time that `fatbench ARGUMENTS` takes."""
    spent = []
    for _ in range(3):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        done = subprocess.run([sys.executable, "-m", "fatbench", *arguments], capture_output=True, text=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        assert done.returncode == 0, done.stderr
        spent.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    return min(spent)


def study(folder: Path) -> None:
    """Write the records of 200 settings under 50 seeds each."""
    history = [probe(epoch, 150, 90) for epoch in range(1, EPOCHS + 1)]
    whole: Record = record(fields={"history": history}, source="s" * 64)
    whole = whole.model_copy(update={"method": whole.method.model_copy(update={"source": "a line of code\n" * 150})})
    content = json.loads(save(whole, folder).read_text())
    save(whole, folder).unlink()
    for number in range(RECORDS):
        content["id"] = f"r{number}"
        content["spec"]["seed"], content["spec"]["train"]["lr"] = number % 50, 0.1 + number // 50 / 1000
        (folder / f"r{number}.json").write_text(json.dumps(content, indent=1))  # as a file that has been edited


@pytest.mark.slow
@pytest.mark.serial
def test_help_takes_six_tenths_of_a_second(tmp_path: Path) -> None:
    assert seconds("--help") < 0.6


@pytest.mark.slow
@pytest.mark.serial
def test_ten_thousand_records_take_three_seconds(tmp_path: Path) -> None:
    study(tmp_path)
    assert seconds("compare", str(tmp_path)) < 3


def test_no_command_line_waits_for_a_heavy_package() -> None:
    code = "import sys, fatbench.cli; print(*{'torch', 'numpy', 'pandas', 'scipy', 'PIL'} & sys.modules.keys())"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == ""
