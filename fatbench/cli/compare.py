"""`fatbench compare`: many records, one honest table for each group that compares."""

from __future__ import annotations

import gc
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer
from rich.text import Text

from fatbench.cli.console import echo, make_console, say
from fatbench.errors import UsageError
from fatbench.report.run import load_runs, split_names

if TYPE_CHECKING:  # reports are imported by what makes one: `fatbench --help` has no use for them
    from fatbench.report import regression
    from fatbench.report.comparison import Group

REGRESSION, NOTHING_TO_COMPARE, INCONCLUSIVE = 3, 5, 7
_STYLES = {"FAIL": "red", "inconclusive": "yellow"}


class Format(StrEnum):
    """How to print the comparison."""

    TABLE = "table"
    MARKDOWN = "markdown"
    CSV = "csv"
    JSON = "json"


def compare(
    files: Annotated[list[str], typer.Argument(metavar="RESULT.json...", help="Records, folders or patterns.")],
    sort: Annotated[
        str | None,
        typer.Option(help="Sort by method, time, clean, pgd-20, autoattack, ... [default: strongest attack]"),
    ] = None,
    reference: Annotated[
        str | None, typer.Option(help="The row whose training time is 1x. [default: the slowest]")
    ] = None,
    per_seed: Annotated[bool, typer.Option("--per-seed", help="A line for each seed, too.")] = False,
    paired: Annotated[
        bool, typer.Option("--paired", help="Test every two rows on the same images: difference, interval, p.")
    ] = False,
    on: Annotated[
        str | None, typer.Option(metavar="EVALUATION", help="What --paired is about. [default: strongest attack]")
    ] = None,
    vs: Annotated[
        str | None, typer.Option(metavar="ROW", help="Test every row against this one only; p pays for fewer tests.")
    ] = None,
    fail_if: Annotated[
        list[str] | None,
        typer.Option(
            metavar="METRIC:LIMIT", help="Exit 3 if so: 'train_seconds:+10%', 'autoattack:-1.0pp'; 7 if noise decides."
        ),
    ] = None,
    baseline: Annotated[
        list[str] | None,
        typer.Option(metavar="RESULT.json", help="Records, folders or patterns that --fail-if compares with."),
    ] = None,
    format_: Annotated[Format, typer.Option("--format", help="How to print.")] = Format.TABLE,
) -> int:
    """Tabulate results: seeds aggregated, what does not compare kept apart.

    What cannot be read is named and left out, and the exit code is 2; with --baseline nothing may be left out.
    """
    from fatbench.report import comparison, regression, thresholds

    bounds = [thresholds.parse_threshold(text) for text in fail_if or []]
    _check_flags(bounds=bool(bounds), baseline=bool(baseline), paired=paired, on=on, vs=vs)
    if paired and per_seed and format_ is Format.CSV:
        raise UsageError("a CSV holds one table: --paired or --per-seed")
    left_out: list[UsageError] = []
    gc.disable()
    try:
        runs = load_runs(files, left_out.append)
    finally:
        gc.freeze()  # all records stay to the end
        gc.enable()
    known = load_runs(split_names(baseline), left_out.append) if baseline else None
    if left_out and baseline:
        raise left_out[0]
    for error in left_out:
        say(f"left out: {error}", 0)
    groups = comparison.compare(runs, sort=sort, reference=reference)
    if paired:
        groups = comparison.with_pairs(groups, on, vs=vs)
    checks = None if known is None else regression.check(runs, known, bounds)
    _print(groups, format_, checks, per_seed=per_seed)
    return _verdict(checks) if checks is not None else left_out[0].exit_code if left_out else 0


def _check_flags(*, bounds: bool, baseline: bool, paired: bool, on: str | None, vs: str | None) -> None:
    from fatbench.report import thresholds

    if bounds and not baseline:
        raise UsageError("--fail-if compares with --baseline RESULT.json")
    if baseline and not bounds:
        raise UsageError(f"--baseline needs --fail-if: {thresholds.GRAMMAR}")
    if on is not None and not paired:
        raise UsageError("--on names the evaluation that --paired is about: add --paired")
    if vs is not None and not paired:
        raise UsageError("--vs names the row that --paired compares the others with: add --paired")


def _print(groups: list[Group], format_: Format, checks: list[regression.Check] | None, *, per_seed: bool) -> None:
    from fatbench.report import render

    if format_ is Format.TABLE:
        console = make_console()
        for table in render.tables(groups, per_seed=per_seed):
            console.print(table)
        for one in checks or []:
            console.print(Text(str(one), style=_STYLES.get(one.outcome, "")), soft_wrap=True)
        return
    if format_ is Format.CSV:
        text = render.csv(groups, per_seed=per_seed)
        for one in checks or []:
            typer.echo(str(one), err=True)  # the table stays one
    else:
        text = {Format.MARKDOWN: render.markdown, Format.JSON: render.json}[format_](
            groups, per_seed=per_seed, checks=checks
        )
    echo(text)


def _verdict(checks: list[regression.Check]) -> int:
    """Return the exit code, and say on stderr why it is not 0."""
    from fatbench.report import regression

    why = regression.nothing_compared(checks)
    if why:
        return say(why, NOTHING_TO_COMPARE)
    failed, open_ = (sum(one.outcome == outcome for one in checks) for outcome in ("FAIL", "inconclusive"))
    if failed:
        return say(f"{failed} of {len(checks)} checks failed", REGRESSION)
    remedy = "measure again on an idle machine, what was noisy (run --force)"
    return say(f"{open_} of {len(checks)} checks inconclusive: {remedy}", INCONCLUSIVE) if open_ else 0
