"""What users name is printed as it stands, whatever Rich would make of it; and every exit has its code."""

import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import typer

from fatbench.cli import app
from fatbench.cli.console import make_console
from fatbench.cli.progress import ProgressObserver
from tests.cli.conftest import TINY, Said

Fatbench = Callable[..., Said]
COMMANDS = ("run", "resume", "eval", "compare", "time", "list", "show", "check-method", "new-method")
FRAMES = "╭╮╰╯│─"
METHOD = '''import torch.nn.functional as F


def mine(model, batch, ctx, *, word: str = ":smile: [red]x[/]"):
    """Mine :smile: [red]one[/].

    Args:
        word: a [bold]word[/], :smile:.
    """
    yield F.cross_entropy(model(batch.x), batch.y)
'''


@pytest.mark.parametrize("command", [(), *((name,) for name in COMMANDS)])
def test_no_help_text_holds_a_picture(fatbench: Fatbench, command: tuple[str, ...]) -> None:
    out = fatbench(*command, "--help").out
    assert "Usage" in out
    assert {letter for letter in out if not letter.isascii()} <= set(FRAMES)


def test_names_and_texts_are_printed_as_they_stand(fatbench: Fatbench, tmp_path: Path) -> None:
    folder = tmp_path / "[bold]:smile:"
    folder.mkdir()
    (folder / "mine.py").write_text(METHOD)
    path = "./[bold]:smile:/mine.py"
    shown = fatbench("show", path).out
    for text in ("Mine :smile: [red]one[/].", "a [bold]word[/], :smile:.", ":smile: [red]x[/]"):
        assert text in shown
    said = fatbench("run", "-m", path, *(word for word in TINY if word != "--quiet"), "-o", ":fire: [red]")
    assert said.code == 0
    assert "record: :fire: [red]/" in said.out
    assert ":fire: [red]" in fatbench("show", ":fire: [red]").complaint


def test_remarks_and_titles_too(capsys: pytest.CaptureFixture[str]) -> None:
    with ProgressObserver(make_console(), "[red]:smile:") as observer:
        observer.warning("kept in :fire: [bold]")
        observer.stage("setting up")
    assert capsys.readouterr().out.splitlines() == ["fatbench: kept in :fire: [bold]", "[red]:smile:: setting up"]


@pytest.mark.parametrize(("code", "expected"), [(5, 5), (None, 0), (0, 0), ("out of cheese", 1)])
def test_an_exit_keeps_its_code(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], code: int | str | None, expected: int
) -> None:
    monkeypatch.setattr(app, "app", lambda **_: sys.exit(code))
    assert app._exit_code() == expected
    assert capsys.readouterr().err == ("fatbench: out of cheese\n" if expected == 1 else "")


def test_only_a_reader_that_went_away_is_no_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    def print_to_nobody(**_: object) -> None:
        try:
            raise BrokenPipeError
        except BrokenPipeError:
            raise SystemExit(1)  # noqa: B904, as Rich does

    monkeypatch.setattr(app, "app", print_to_nobody)
    assert app._exit_code() == 0


def test_errors_of_the_command_line_are_known_by_their_base() -> None:
    assert app._CommandLineError.__name__ == "ClickException"
    assert issubclass(typer.BadParameter, app._CommandLineError)
