"""The application: its commands, and how every failure ends in one line and the right exit code."""

import io
import os
import sys
from typing import Annotated, Any

import typer

import fatbench
from fatbench.cli.check_method import check_method
from fatbench.cli.compare import compare
from fatbench.cli.console import INTERNAL, report_error, say
from fatbench.cli.eval import evaluate
from fatbench.cli.listing import list_things
from fatbench.cli.new_method import new_method
from fatbench.cli.resume import resume
from fatbench.cli.run import run
from fatbench.cli.show import show
from fatbench.cli.signals import INTERRUPTED, ignore_signals
from fatbench.cli.time import time_steps

# Some versions of typer depend on click and some bring their own: its base of all errors has one name in both.
_CommandLineError: Any = next(base for base in typer.BadParameter.__mro__ if base.__name__ == "ClickException")

app = typer.Typer(
    name="fatbench",
    help="Train image classifiers by fast adversarial training, attack them, and read time and robustness.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)
app.command(name="run")(run)
app.command(name="resume")(resume)
app.command(name="eval")(evaluate)
app.command(name="compare")(compare)
app.command(name="time")(time_steps)
app.command(name="list")(list_things)
app.command(name="show")(show)
app.command(name="check-method")(check_method)
app.command(name="new-method")(new_method)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"fatbench {fatbench.__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and exit.", is_eager=True, callback=_print_version)
    ] = False,
) -> None:
    """Hold the options that stand before a command."""


def run_app() -> None:
    """Run the command line and exit.

    0 ok, 1 internal, 2 usage, 3 regression or broken contract, 4 invalid run, 5 nothing to compare, 6 resources,
    7 inconclusive, 75 SIGTERM and other signals, 130 Ctrl-C.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a terminal that knows only ASCII gets "?" for "±", not a failure
            stream.reconfigure(errors="replace")
    sys.exit(_exit_code())


def _exit_code() -> int:
    try:
        code = app(standalone_mode=False)
    except _CommandLineError as error:
        return say(error.format_message(), error.exit_code)
    except (typer.Abort, KeyboardInterrupt):
        ignore_signals()
        return say("interrupted", INTERRUPTED)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except SystemExit as error:
        return _code_of(error)
    except Exception as error:
        return report_error(error)
    return code if isinstance(code, int) else 0


def _code_of(error: SystemExit) -> int:
    """Return the code that Python would have ended with."""
    if isinstance(error.__context__, BrokenPipeError):  # Rich's: the reader of the output went away, as `head` does
        return 0
    if isinstance(error.code, str):
        return say(error.code, INTERNAL)
    return error.code or 0
