"""One run as a panel: the end of `fatbench run`, and `fatbench show RESULT.json`."""

from collections.abc import Iterator
from pathlib import Path

from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from fatbench.record import Record
from fatbench.record.parts import Score
from fatbench.report.formats import duration, evaluation_title, interval, percent, plain
from fatbench.report.render.panel_lines import Line, asked, sparkline, spent
from fatbench.report.run import Run, in_words
from fatbench.report.validity import guessing
from fatbench.statistics import wilson

_COLOURS = {
    "finished": "green",
    "running": "blue",
    "diverged": "red",
    "failed": "red",
    "interrupted": "yellow",
    "stopped": "yellow",
}
_SHOWN = 8  # events or warnings; the file has them all


def panel(record: Record, path: Path | None = None) -> RenderableType:
    """Return everything that a person asks of one run, as a Rich panel; `path` is where the record lies."""
    status = Run(record, path).status
    title = Text.assemble(plain(record.id), "  ", (in_words(status), f"bold {_COLOURS[status]}"))
    blocks = [_lines([*asked(record), *spent(record)])]
    if record.scores:
        blocks.append(_scores(record))
    blocks.extend(_lines(found) for found in (list(_curves(record)), [*_remarks(record), *_origin(record)]) if found)
    separated = [part for block in blocks for part in (Text(), block)][1:]
    return Panel(Group(*separated), title=title, title_align="left", border_style=_COLOURS[status], padding=(0, 1))


def _scores(record: Record) -> Table:
    """The scores with their intervals; where other weights than the last ones were scored, the last ones' below."""
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False)
    for title, justify in (("accuracy", "left"), ("%", "right"), ("95% interval", "right"), ("correct", "right")):
        table.add_column(title, justify=justify, overflow="fold")  # type: ignore[arg-type]
    for name, score in record.scores.items():
        _add(table, name, score)
        for part in dict.fromkeys([*score.survivors, *score.part_seconds]):
            left = score.survivors.get(part)
            took = f" ({duration(score.part_seconds[part])})" if part in score.part_seconds else ""
            shares = ("", "") if left is None else (percent(left / score.total), f"{left:,}")
            table.add_row(Text(f"  after {plain(part)}{took}"), shares[0], "", shares[1], style="dim")
    for name, score in record.selection.last_scores.items() if record.selection else ():
        _add(table, name, score, " of the last weights", style="dim")
    return table


def _add(table: Table, name: str, score: Score, of: str = "", style: str = "bold") -> None:
    low, high = wilson(score.correct, score.total)
    version = plain(score.attack.get("version", "standard"))
    title = evaluation_title(name) + (f" {version}" if version != "standard" else "") + of
    precise = score.attack.get("precision")
    met = isinstance(precise, float) and 100 * (high - low) / 2 <= precise
    wanted = plain(f", for ±{precise:g} points") if met else ""
    count = f"{score.correct:,} of {score.total:,}{wanted}"
    table.add_row(Text(title), percent(score.accuracy), Text(interval(low, high)), Text(count), style=style)


def _curves(record: Record) -> Iterator[Line]:
    for name in dict.fromkeys(name for probe in record.history for name in probe.scores):
        probes = sorted((p for p in record.history if name in p.scores), key=lambda probe: probe.train_seconds)
        times = [probe.train_seconds for probe in probes]
        shares = [probe.scores[name].accuracy for probe in probes]
        ends = f"{percent(shares[0])} to {percent(shares[-1])}, best {percent(max(shares))}"
        yield f"{evaluation_title(name)}", f"{sparkline(times, shares)}  {ends}  validation, {duration(times[-1])}"


def _remarks(record: Record) -> Iterator[Line]:
    if record.error:
        yield "error", plain(record.error, 400)
    yield from _selection(record)
    reason = guessing(record)
    if reason:
        yield "scores", reason.detail
    yield from _diagnostics(record)
    for event in record.events[:_SHOWN]:
        detail = f": {event.detail}" if event.detail else ""
        yield "event", plain(f"{event.kind} at step {event.step}, {duration(event.train_seconds)}{detail}", 400)
    if len(record.events) > _SHOWN:
        yield "", f"and {len(record.events) - _SHOWN} more events"
    warnings = [(name, text) for name, score in record.scores.items() for text in score.warnings]
    for name, text in warnings[:_SHOWN]:
        yield "warning", plain(f"{evaluation_title(name)}: {text}", 400)
    if len(warnings) > _SHOWN:
        yield "", f"and {len(warnings) - _SHOWN} more warnings"


def _selection(record: Record) -> Iterator[Line]:
    chosen = record.selection
    if chosen is not None and chosen.policy != "last":
        how = f"best on validation {evaluation_title(chosen.on or '')}" if chosen.policy == "best" else chosen.policy
        yield "scored", f"the weights of epoch {chosen.epoch}, {duration(chosen.train_seconds)}: {how}"


def _diagnostics(record: Record) -> Iterator[Line]:
    found = record.diagnostics
    if found is None:
        return
    for finding in found.findings[:_SHOWN]:
        where = f" ({evaluation_title(finding.evaluation)})" if finding.evaluation else ""
        yield "contract", plain(f"{finding.code}{where}: {finding.detail}", 400)
    if len(found.findings) > _SHOWN:
        yield "", f"and {len(found.findings) - _SHOWN} more findings"
    if found.masking is not None:
        unmasked = "nothing to tell of a network that guesses" if guessing(record) else "no sign of masked gradients"
        suspect = found.masking.verdict == "suspect"
        yield "masking", "SUSPECT: robust perhaps only to gradients" if suspect else unmasked
        for reason in found.masking.reasons[:_SHOWN]:
            yield "", plain(reason, 400)


def _origin(record: Record) -> Iterator[Line]:
    machine = record.environment
    if machine:
        cuda = f", CUDA {machine.cuda}" if machine.cuda else ""
        threads = f"{machine.cpu_threads} CPU thread{'s' * (machine.cpu_threads != 1)}"
        yield "machine", plain(f"{machine.device}, {threads}, torch {machine.torch}{cuda}", 400)
        commit = f" at {machine.commit[:12]}" if machine.commit else ""
        yield (
            "code",
            plain(f"fatbench {machine.fatbench}{commit}{' with uncommitted changes' if machine.dirty else ''}"),
        )
    yield "created", plain(record.created)


def _lines(found: list[Line]) -> Table:
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in found:
        table.add_row(Text(name), Text(value))
    return table
