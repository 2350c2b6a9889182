"""Run the command line in this process, as a user would in hers."""

import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from fatbench.cli import main
from fatbench.cli.signals import HANDLED

TINY = ("--epochs", "1", "--eval", "clean", "--quiet", "--calibration", "0")  # one epoch of digits: a third of a second


@dataclass(frozen=True)
class Said:
    """What a command printed and how it ended."""

    code: int
    out: str
    err: str

    @property
    def complaint(self) -> str:
        """The one line of a failure."""
        lines = self.err.strip().splitlines()
        assert len(lines) == 1, f"one clear line, not {len(lines)}: {self.err}"
        assert lines[0].startswith("fatbench: ")
        assert "Traceback" not in self.out + self.err
        return lines[0].removeprefix("fatbench: ")


@pytest.fixture
def fatbench(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> Callable[..., Said]:
    """Return a function that runs `fatbench ARGUMENTS` in an empty folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.delenv("FATBENCH_DATA", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))

    def run(*arguments: object) -> Said:
        monkeypatch.setattr(sys, "argv", ["fatbench", *map(str, arguments)])
        before = {number: signal.getsignal(number) for number in HANDLED}
        with pytest.raises(SystemExit) as exit_:
            main()
        for number, known in before.items():  # ignored from here on, in a process of its own
            signal.signal(number, known)
        captured = capsys.readouterr()
        return Said(int(exit_.value.code or 0), captured.out, captured.err)

    return run
