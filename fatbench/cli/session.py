"""A session: runs one after another, of which none takes the others down; what came of each; the worst exit code."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import typer
from rich.console import Console

from fatbench.cli.complaint import complain
from fatbench.cli.interruption import Signals, heeding_signals, say_interrupted
from fatbench.cli.strict import doubts
from fatbench.errors import InvalidRunError
from fatbench.record import Record
from fatbench.spec import RunSpec, short_name


def run_all(specs: Sequence[RunSpec], *, json: bool, quiet: bool, strict: bool, **options: Any) -> int:
    """Run every spec, print what came out, and return the worst exit code.

    Args:
        specs: of the runs; after an interruption the rest is not begun.
        json: print the records, and nothing else, to stdout.
        quiet: no progress.
        strict: reason to doubt a result is a failure.
        options: of `fatbench.runner.run`.

    Raises:
        Exception: the only run there is has failed.
    """
    console = Console()
    records: list[Record] = []
    ends: list[str] = []
    code = 0
    for spec in specs:
        with heeding_signals() as signals:
            try:
                result = _run_one(spec, quiet=quiet or json, stop=signals, **options)
            except KeyboardInterrupt:
                code = max(code, say_interrupted(spec, options["output"], signals.exit_code))
                ends += ["interrupted", *["not begun"] * (len(specs) - len(ends) - 1)]
                break
            except Exception as error:
                if len(specs) == 1:
                    raise
                code = max(code, complain(error, f"{_title(spec)}: "))
                ends.append("failed")
                continue
        records.append(result)
        ends.append(result.status)
        if result.status == "diverged" or (strict and doubts(result)):
            code = max(code, InvalidRunError.exit_code)
        if not json:
            _print(console, result, options["output"])
    if json:
        typer.echo(json_list(records))
    elif len(records) > 1:
        _print_comparison(console, records, options["output"])
    if len(specs) > 1 and set(ends) != {"finished"}:
        _say_ends(specs, ends)
    if strict:  # last, where whoever sees the exit code looks for its reason
        _say_doubts(records)
    return code


def _run_one(spec: RunSpec, *, quiet: bool, stop: Signals, **options: Any) -> Record:
    from fatbench import runner
    from fatbench.cli.progress import ProgressObserver

    # What a user's own method or model prints is no result: stdout is for records and panels.
    with redirect_stdout(sys.stderr), ProgressObserver(Console(stderr=True), _title(spec), quiet) as observer:
        return runner.run(spec, observer=observer, stop=stop, **options)


def _title(spec: RunSpec) -> str:
    return f"{short_name(spec.method)} seed {spec.seed}"


def _say_doubts(records: Sequence[Record]) -> None:
    """Say why results are not to be relied on."""
    for result in records:
        for doubt in doubts(result):
            typer.echo(f"fatbench: {_title(result.spec)}: {doubt}", err=True)


def _say_ends(specs: Sequence[RunSpec], ends: Sequence[str]) -> None:
    """Say what became of every run, since not all have come to a result."""
    width = max(len(end) for end in ends)
    for spec, end in zip(specs, ends, strict=True):
        typer.echo(f"fatbench: {end:<{width}}  {_title(spec)}", err=True)


def _print(console: Console, result: Record, output: Path) -> None:
    from fatbench.report.panel import panel

    console.print(panel(result, output / f"{result.id}.json"))


def _print_comparison(console: Console, records: list[Record], output: Path) -> None:
    from fatbench.report import comparison, render
    from fatbench.report.loaded import Run

    runs = [Run(result, output / f"{result.id}.json") for result in records]
    for table in render.tables(comparison.compare(runs, sort=None, reference=None)):
        console.print(table)


def json_list(things: Sequence[RunSpec | Record]) -> str:
    """The things as one JSON array."""
    return "[" + ",\n".join(thing.model_dump_json(by_alias=True) for thing in things) + "]"
