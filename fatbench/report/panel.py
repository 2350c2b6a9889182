"""One run as a panel: the end of `fatbench run`, and `fatbench show RESULT.json`."""

from collections.abc import Iterator
from pathlib import Path

from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from fatbench.record import Record
from fatbench.report.cells import duration, evaluation_title, interval, percent, quantity
from fatbench.report.curve import sparkline
from fatbench.report.plain import plain
from fatbench.spec import short_name
from fatbench.statistics import wilson

_COLOURS = {"finished": "green", "running": "blue", "diverged": "red", "failed": "red", "interrupted": "yellow"}
_SHOWN = 8  # events or warnings; the file has them all
Line = tuple[str, str]


def panel(record: Record, path: Path | None = None) -> RenderableType:
    """Return everything that a person asks of one run, as a Rich panel; `path` is where the record lies."""
    title = Text.assemble(plain(record.id), "  ", (record.status, f"bold {_COLOURS[record.status]}"))
    blocks = [_lines([*_what(record), *_training(record)])]
    if record.scores:
        blocks.append(_scores(record))
    blocks.extend(
        _lines(found) for found in (list(_curves(record)), [*_remarks(record), *_origin(record, path)]) if found
    )
    separated = [part for block in blocks for part in (Text(), block)][1:]
    return Panel(
        Group(*separated), title=title, title_align="left", border_style=_COLOURS[record.status], padding=(0, 1)
    )


def _what(record: Record) -> Iterator[Line]:
    spec, data = record.spec, record.data
    hyper = " ".join(f"{name}={value}" for name, value in spec.hyper.items())
    yield "method", f"{short_name(spec.method)}  {plain(hyper, 400)}".rstrip()
    counts = f"  {data.train:,} train, {data.validation:,} validation, {data.test:,} test images" if data else ""
    kinds = f", {data.classes} classes" if data else ""
    yield "data", f"{short_name(spec.dataset)}{counts}{kinds}"
    if spec.limit_train or (data and data.subset):
        yield "", "SUBSET of the training images: no result to cite"
    size = f"  {record.parameters:,} parameters" if record.parameters else ""
    yield "model", f"{short_name(spec.model)}{size}, {spec.precision}"
    yield "threat", f"{spec.norm} eps {spec.eps}"
    yield "recipe", f"batches of {spec.batch_size}, lr {spec.lr:g} {spec.schedule}, seed {spec.seed}"
    stopped = f", stopped by {record.budget.stopped_by}" if record.budget.stopped_by else ""
    yield "budget", f"{spec.budget}{stopped}"
    if record.target:
        at = record.target.train_seconds
        yield "target", f"{plain(record.target.target)} {'not reached' if at is None else f'after {duration(at)}'}"
    yield from _engine(record)


def _engine(record: Record) -> Iterator[Line]:
    engine = record.engine
    if engine is None or engine.name == "reference":
        return
    on = [plain(part) for part, in_force in engine.in_force.items() if in_force]
    yield "engine", f"{plain(engine.name)}: {', '.join(on) or 'nothing in force'}"
    for part, why in engine.notes.items():
        yield "", f"no {plain(part)}: {plain(why)}"
    costs = {"compiled": engine.compile_seconds, "captured": engine.capture_seconds}
    spent = [f"{what} in {duration(seconds)}" for what, seconds in costs.items() if seconds]
    if spent:
        yield "", ", ".join(spent)


def _training(record: Record) -> Iterator[Line]:
    seconds, images = record.timing.train, record.steps * record.spec.batch_size
    if not images:
        yield "training", "no step taken"
        return
    rate = f", {images / seconds:,.0f} images/s" if seconds and not record.throughput else ""
    yield "training", f"{duration(seconds)}, {record.steps:,} steps, {record.data_passes:.4g} data passes{rate}"
    each = [f"{count / images:.3g} {name.replace('_', ' ')}" for name, count in record.passes]
    yield "passes", f"{', '.join(each)} per image and step"
    yield from _pace(record)
    others = [f"{name} {duration(value)}" for name, value in record.timing if name != "train" and value]
    if others:
        yield "off the clock", ", ".join(others)
    if record.memory:
        peaks = [f"{plain(name)} {count / 2**20:,.0f} MiB" for name, count in record.memory.items()]
        yield "peak memory", plain(", ".join(peaks))


def _pace(record: Record) -> Iterator[Line]:
    pace, compute = record.throughput, record.compute
    if pace:
        blocks = f"{pace.blocks} block{'s' * (pace.blocks != 1)}"
        even = "too few to tell how even" if pace.spread is None else f"spread {pace.spread:.1%}"
        yield "speed", f"{pace.images_per_second:,.0f} images/s, median of {blocks}, {even}"
        if pace.noisy:
            throttled = any(event.kind == "throttled" for event in record.events)
            why = "the device was throttled" if throttled else "its pace was uneven, as beside other work"
            yield "noisy", f"do not rely on the speed of this run: {why}"
    if compute:
        peak, mfu, share = compute.peak_flops_per_second, compute.mfu, ""
        if peak is not None and mfu is not None:
            share = f", {mfu:.1%} (MFU) of the {quantity(peak, 'FLOP/s')} that matrix products reach here"
        yield "compute", f"{quantity(compute.flops_per_second, 'FLOP/s')}{share}"
    if record.energy_joules is not None:
        yield "energy", f"{quantity(record.energy_joules, 'J')} of the GPU while it trained"


def _scores(record: Record) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False)
    for title, justify in (("accuracy", "left"), ("%", "right"), ("95% interval", "right"), ("correct", "right")):
        table.add_column(title, justify=justify, overflow="fold")  # type: ignore[arg-type]
    for name, score in record.scores.items():
        low, high = wilson(score.correct, score.total)
        version = plain(score.attack.get("version", "standard"))
        title = evaluation_title(name) + (f" {version}" if version != "standard" else "")
        count = f"{score.correct:,} of {score.total:,}"
        table.add_row(Text(title), percent(score.accuracy), Text(interval(low, high)), count, style="bold")
        for part, left in score.survivors.items():
            table.add_row(Text(f"  after {plain(part)}"), percent(left / score.total), "", f"{left:,}", style="dim")
    return table


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


def _origin(record: Record, path: Path | None) -> Iterator[Line]:
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
    if path is not None:
        yield "record", plain(path, 4096)


def _lines(found: list[Line]) -> Table:
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in found:
        table.add_row(Text(name), Text(value))
    return table
