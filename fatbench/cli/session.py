"""Several runs, one after another: one that fails does not stop the others; the exit code is the worst of theirs."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import redirect_stdout
from pathlib import Path

import typer
from rich.console import Console

from fatbench.cli.console import echo, json_list, make_console, report_error, say
from fatbench.cli.resume_hint import report_interrupted, with_resume_hint
from fatbench.cli.show import print_result
from fatbench.cli.signals import Signals, cancel_on_signals, ignore_signals
from fatbench.config.request import RunOptions
from fatbench.config.spec import RunSpec, short_name
from fatbench.errors import InvalidRunError
from fatbench.record import Record
from fatbench.report.validity import reasons_to_distrust


def run_all(specs: Sequence[RunSpec], how: RunOptions, *, json: bool, quiet: bool, strict: bool) -> int:
    """Run every spec, print what came out, and return the worst exit code.

    Args:
        specs: of the runs; after an interruption the rest did not start.
        strict: a reason to distrust a result is a failure.

    Raises:
        Exception: the only run there is has failed.
    """
    summary = _Summary(make_console(), specs, json=json, strict=strict, output=how.output)
    with cancel_on_signals() as signals:
        for spec in specs:
            try:
                summary.result(_run_one(spec, how, quiet=quiet or json, cancel=signals))
            except KeyboardInterrupt:
                summary.interrupted(spec, how, signals.exit_code)
                break
            except Exception as error:
                mendable = with_resume_hint(error, spec, how)
                if len(specs) == 1:
                    raise mendable  # noqa: B904 - it is the same, in other words
                summary.failed(spec, mendable)
            if signals.requested and spec is not specs[-1]:  # this run was over, and the rest is not to begin
                ignore_signals()
                summary.code = max(summary.code, say("interrupted; the rest did not start", signals.exit_code))
                break
    return summary.in_the_end(resumable=not how.force)


def show_stored(result: Record, *, json: bool, strict: bool, output: Path) -> int:
    """Print a result as it is stored, and return the exit code."""
    say("already finished: nothing to resume; `fatbench run ... --force` runs it again", 0)
    summary = _Summary(make_console(), [result.spec], json=json, strict=strict, output=output)
    summary.result(result)
    return summary.in_the_end()


class _Summary:
    """What is said of several runs: of each when it ends, of all in the end."""

    def __init__(self, console: Console, specs: Sequence[RunSpec], *, json: bool, strict: bool, output: Path) -> None:
        self._console, self._specs, self._json, self._strict, self._output = console, specs, json, strict, output
        self._records: list[Record] = []
        self._ends: list[str] = []
        self.code = 0

    def result(self, result: Record) -> None:
        """A run has come to a result."""
        self._records.append(result)
        self._ends.append(result.status)
        if result.status == "diverged" or (self._strict and reasons_to_distrust(result)):
            self.code = max(self.code, InvalidRunError.exit_code)
        if not self._json:
            print_result(self._console, result, self._output / f"{result.id}.json")

    def failed(self, spec: RunSpec, error: Exception) -> None:
        """A run has failed."""
        self.code = max(self.code, report_error(error, f"{_title(spec)}: "))
        self._ends.append("failed")

    def interrupted(self, spec: RunSpec, how: RunOptions, code: int) -> None:
        """A run was interrupted, or what is said of its result."""
        if len(self._ends) == self._specs.index(spec):
            self.code = max(self.code, report_interrupted(spec, how, code))
            self._ends.append("interrupted")
        else:
            ignore_signals()
            self.code = max(self.code, say("interrupted", code))

    def in_the_end(self, *, resumable: bool = False) -> int:
        """Say what became of all of them, and return the worst exit code; the rest may be `resumable`."""
        if self._json:
            echo(json_list(self._records))
        elif len(self._records) > 1:
            _print_comparison(self._console, self._records, self._output)
        ends = [*self._ends, *["not started"] * (len(self._specs) - len(self._ends))]
        if len(self._specs) > 1 and set(ends) != {"finished"}:
            _say_ends(self._specs, ends)
            if resumable and "not started" in ends:
                say("the same command with --resume runs what is left", 0)
        if self._strict:  # last, where whoever sees the exit code looks for its reason
            _print_findings(self._records)
        return self.code


def _run_one(spec: RunSpec, how: RunOptions, *, quiet: bool, cancel: Signals) -> Record:
    from fatbench import runner
    from fatbench.cli.progress import ProgressObserver

    # What a user's own method or model prints is no result: stdout is for records and panels.
    with redirect_stdout(sys.stderr), ProgressObserver(make_console(stderr=True), _title(spec), quiet) as observer:
        return runner.run(spec, how, observer=observer, cancel=cancel)


def _title(spec: RunSpec) -> str:
    return f"{short_name(spec.method)} seed {spec.seed}"


def _print_findings(records: Sequence[Record]) -> None:
    """Say why results are not to be relied on."""
    for result in records:
        for reason in reasons_to_distrust(result):
            say(f"{_title(result.spec)}: {reason.detail}")


def _say_ends(specs: Sequence[RunSpec], ends: Sequence[str]) -> None:
    """Say what became of every run, since not all have come to a result."""
    width = max(len(end) for end in ends)
    for spec, end in zip(specs, ends, strict=True):
        typer.echo(f"fatbench: {end:<{width}}  {_title(spec)}", err=True)  # in columns


def _print_comparison(console: Console, records: list[Record], output: Path) -> None:
    from fatbench.report import comparison, render
    from fatbench.report.run import Run

    runs = [Run(result, output / f"{result.id}.json") for result in records]
    for table in render.tables(comparison.compare(runs, sort=None, reference=None)):
        console.print(table)
