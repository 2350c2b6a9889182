"""Give untrusted files to the command line: it answers in one line, soon, in little memory, and runs nothing."""

import resource
import signal
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import pytest
import typer.main

from tests.cli.conftest import Said, fatbench

__all__ = ["fatbench"]

PATIENCE = 300  # seconds; every answer takes a fraction of one, on a machine that has nothing else to do
MEMORY = 2 * 2**30  # bytes beyond what the process has
OK, USAGE, INVALID, NOTHING, RESOURCES = 0, 2, 4, 5, 6

Answer = Callable[..., Said]
_once = cache(typer.main.get_command)  # building all commands takes ten times as long as most answers


class Hang(BaseException):
    """Nothing in fatbench catches it."""


@pytest.fixture
def _bounded() -> Iterator[None]:
    """Bound time and memory: what would never end fails instead of taking the machine down."""

    def give_up(*_: object) -> None:
        raise Hang(f"no answer in {PATIENCE} seconds")

    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limits = resource.getrlimit(resource.RLIMIT_AS)
    before = signal.signal(signal.SIGALRM, give_up)
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + MEMORY, limits[1]))
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
        resource.setrlimit(resource.RLIMIT_AS, limits)


@pytest.fixture
def answer(fatbench: Answer, _bounded: None, monkeypatch: pytest.MonkeyPatch) -> Answer:
    """Return a function that runs `fatbench ARGUMENTS` and checks that it ends as it should, whatever it was given.

    The file is `refused`, or the machine is found `lacking`: what it takes is not there.
    """

    monkeypatch.setattr(typer.main, "get_command", _once)

    def ask(*arguments: object, refused: bool = False, lacking: bool = False) -> Said:
        signal.alarm(PATIENCE)
        said = fatbench(*arguments)
        signal.alarm(0)
        assert "internal error" not in said.err, said.err
        assert all(letter.isprintable() or letter == "\n" for letter in said.out + said.err)
        if said.code == OK:
            assert not refused, f"taken for sound: {said.out}"
        else:
            assert said.complaint
            assert said.code in ((USAGE,) if refused else (USAGE, INVALID, NOTHING, RESOURCES)[: 4 if lacking else 3])
        return said

    return ask
