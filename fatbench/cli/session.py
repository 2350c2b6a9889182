"""Several runs, one after another: one that fails does not stop the others; the exit code is the worst of theirs."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import redirect_stdout
from pathlib import Path

import typer
from rich.console import Console
from rich.text import Text

from fatbench.cli.console import echo, json_list, make_console, report_error, say
from fatbench.cli.overall import Overall
from fatbench.cli.resume_hint import report_interrupted, with_resume_hint
from fatbench.cli.show import print_result
from fatbench.cli.signals import Signals, cancel_on_signals, ignore_signals
from fatbench.config.request import RunOptions
from fatbench.config.spec import RunSpec
from fatbench.errors import InvalidRunError
from fatbench.record import Record
from fatbench.report.formats import plain
from fatbench.report.validity import reasons_to_distrust


def run_all(
    specs: Sequence[RunSpec], how: RunOptions, *, json: bool, quiet: bool, strict: bool, panels: bool = False
) -> int:
    """Run every spec, print what came out, and return the worst exit code.

    Args:
        specs: of the runs; after an interruption the rest did not start.
        strict: a reason to distrust a result is a failure.
        panels: of several results; else each is a line.

    Raises:
        Exception: the only run there is has failed.
    """
    overall = Overall(specs, how)
    summary = _Summary(overall, json=json, strict=strict, panels=panels or len(specs) == 1, output=how.output)
    with cancel_on_signals() as signals:
        for spec in specs:
            overall.begin(spec)
            try:
                result = _run_one(spec, how, overall, quiet=quiet or json, cancel=signals)
                overall.finished(result)
                summary.result(result)
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
    overall = Overall([result.spec], RunOptions(output=output))
    summary = _Summary(overall, json=json, strict=strict, panels=True, output=output)
    summary.result(result)
    return summary.in_the_end()


class _Summary:
    """What is said of several runs: of each when it ends, of all in the end."""

    def __init__(self, overall: Overall, *, json: bool, strict: bool, panels: bool, output: Path) -> None:
        self._overall, self._specs, self._output = overall, overall.specs, output
        self._json, self._strict, self._panels = json, strict, panels
        self._console = make_console()
        self._records: list[Record] = []
        self._ends: list[str] = []
        self.code = 0

    def result(self, result: Record) -> None:
        """A run has come to a result."""
        self._records.append(result)
        self._ends.append(result.status)
        if result.status == "diverged" or (self._strict and reasons_to_distrust(result)):
            self.code = max(self.code, InvalidRunError.exit_code)
        if self._json:
            return
        if self._panels:
            print_result(self._console, result, self._output / f"{result.id}.json")
        else:
            _print_line(self._console, f"{self._overall.fraction} {self._overall.title(result.spec)}", result)

    def failed(self, spec: RunSpec, error: Exception) -> None:
        """A run has failed."""
        self.code = max(self.code, report_error(error, f"{self._overall.title(spec)}: "))
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
        if self._records and not (self._json or self._panels):
            where = f"records in {plain(self._output, 4096)}: `fatbench show RESULT.json` prints one in full"
            self._console.print(Text(where), soft_wrap=True)
        ends = [*self._ends, *["not started"] * (len(self._specs) - len(self._ends))]
        if len(self._specs) > 1 and set(ends) != {"finished"}:
            self._say_ends(ends)
            if resumable and "not started" in ends:
                say("the same command with --resume runs what is left", 0)
        if self._strict:  # last, where whoever sees the exit code looks for its reason
            self._say_findings()
        return self.code

    def _say_findings(self) -> None:
        """Say why results are not to be relied on."""
        for result in self._records:
            for reason in reasons_to_distrust(result):
                say(f"{self._overall.title(result.spec)}: {reason.detail}")

    def _say_ends(self, ends: Sequence[str]) -> None:
        """Say what became of every run, since not all have come to a result."""
        width = max(len(end) for end in ends)
        for spec, end in zip(self._specs, ends, strict=True):
            typer.echo(f"fatbench: {end:<{width}}  {self._overall.title(spec)}", err=True)  # in columns


def _run_one(spec: RunSpec, how: RunOptions, overall: Overall, *, quiet: bool, cancel: Signals) -> Record:
    from fatbench import runner
    from fatbench.cli.progress import ProgressObserver

    console = make_console(stderr=True)
    # What a user's own method or model prints is no result: stdout is for records and panels.
    with (
        redirect_stdout(sys.stderr),
        ProgressObserver(console, overall.title(spec), quiet, overall=overall) as observer,
    ):
        return runner.run(spec, how, observer=observer, cancel=cancel)


def _print_line(console: Console, title: str, result: Record) -> None:
    from fatbench.report.render.line import line

    console.print(Text(f"{title}  {line(result)}"), soft_wrap=True)


def _print_comparison(console: Console, records: list[Record], output: Path) -> None:
    from fatbench.report import comparison, render
    from fatbench.report.run import Run

    runs = [Run(result, output / f"{result.id}.json") for result in records]
    for table in render.tables(comparison.compare(runs, sort=None, reference=None)):
        console.print(table)
