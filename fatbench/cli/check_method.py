"""`fatbench check-method`: does a method keep to what trainer, engines and tables rely on."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from contextlib import redirect_stdout
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich import box
from rich.table import Table
from rich.text import Text

from fatbench import methods
from fatbench.cli.console import echo, make_console
from fatbench.config.lists import method_names
from fatbench.errors import UsageError

if TYPE_CHECKING:
    from fatbench.conformance.report import Facts, Report

BROKEN = 3
_MARKS = {"ok": "ok", "declared": "declared", "unknown": "-", "failed": "FAILED", "skipped": "-"}
_LEGEND = (
    "per optimiser step: passes (forward + to inputs + to weights) and updates of batch norm; steps per batch; "
    "bytes kept for each 3x32x32 training image with a frame of 4"
)
_STYLES = {"failed": "bold red", "declared": "yellow", "unknown": "dim", "skipped": "dim"}


def check_method(
    method: Annotated[
        list[str] | None, typer.Argument(metavar="NAME|FILE.py...", help="Methods.", show_default=False)
    ] = None,
    all_: Annotated[bool, typer.Option("--all", help="Every registered method.")] = False,
    json_: Annotated[bool, typer.Option("--json", help="Print JSON, and nothing else, to stdout.")] = False,
) -> None:
    """Check in seconds that methods keep their contract, and count what they cost; exit with 3 if one does not."""
    names = method_names([*(method or ()), *(methods.names() if all_ else ())], methods.names)
    if not names:
        raise UsageError("which method? Give names, paths of .py files, or --all")
    for described in map(methods.describe, names):
        _ = described.reach, described.norms  # reports a mistake in them before torch is imported
    reports = _look(names)
    if json_:
        echo(json.dumps([_as_dict(report) for report in reports], indent=1))
    else:
        _print(reports)
    raise typer.Exit(BROKEN if any(report.failed for report in reports) else 0)


def _look(names: list[str]) -> list[Report]:
    with redirect_stdout(sys.stderr), make_console(stderr=True).status("") as status:  # stdout is for the table
        from fatbench.conformance.checking import check

        reports = []
        for name in names:
            status.update(Text(f"checking {name}"))
            reports.append(check(name))
        return reports


def _print(reports: list[Report]) -> None:
    console = make_console()
    if len(reports) > 1:
        console.print(_overview(reports))
        console.print(Text(_LEGEND, style="dim"))
        reports = [report for report in reports if report.failed]
    for report in reports:
        console.print(_table(report))
        if report.facts:
            console.print(Text(_summary(report.facts), style="dim"))


def _table(report: Report) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, title=report.method, title_justify="left")
    for column in ("check", "", "what was found"):
        table.add_column(column, overflow="fold")
    for finding in report.findings:
        style = _STYLES.get(finding.status, "")
        table.add_row(finding.check, Text(_MARKS[finding.status], style=style), Text(finding.detail))
    return table


def _summary(facts: Facts) -> str:
    passes = " + ".join(map(_rounded, (facts.forward, facts.input_backward, facts.weight_backward)))
    updates = f", {facts.updates} optimiser steps per batch" if facts.updates > 1 else ""
    memory = f"keeps {facts.memory:,} bytes per 3x32x32 training image" if facts.memory else "keeps nothing per image"
    smoothing = "uses" if facts.heeds_smoothing else "ignores"
    return (
        f"{_rounded(facts.units)} passes per optimiser step ({passes}: forward, to inputs, to weights){updates}; "
        f"{memory}; norms {', '.join(facts.norms)}; {smoothing} --label-smoothing"
    )


def _overview(reports: list[Report]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    table.add_column("method", no_wrap=True)
    for column in ("passes", "BN", "steps", "memory"):
        table.add_column(column, justify="right")
    for column in ("norms", "declared", "checks"):
        table.add_column(column, overflow="fold")
    for report in reports:
        failures = ", ".join(finding.check for finding in report.failed)
        verdict = Text(f"FAILED: {failures}", style=_STYLES["failed"]) if failures else Text("ok")
        table.add_row(report.method, *_cells(report.facts), verdict)
    return table


def _cells(facts: Facts | None) -> list[str]:
    if facts is None:
        return [""] * 6
    numbers = [_rounded(facts.units), _rounded(facts.batch_norm_updates), f"{facts.updates}", f"{facts.memory:,}"]
    return [*numbers, ", ".join(facts.norms), ", ".join(_plain(facts.exceptions))]


def _rounded(number: float) -> str:
    """What a batch's size divides is no round number."""
    return f"{round(number, 2):g}"


def _plain(names: Iterable[str]) -> list[str]:
    return [name.lower().replace("_", " ") for name in names]


def _as_dict(report: Report) -> dict[str, Any]:
    facts = {**asdict(report.facts), "units": report.facts.units} if report.facts else None
    findings = [asdict(finding) for finding in report.findings]
    return {"method": report.method, "ok": not report.failed, "findings": findings, "facts": facts}
