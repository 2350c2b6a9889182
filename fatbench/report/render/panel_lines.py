"""What a run was asked to do and what its training cost, line by line; a curve in one line."""

from collections.abc import Iterator, Sequence

from fatbench.config.spec import FIELDS, OPTIONS, TrainSpec, short_name
from fatbench.record import Record
from fatbench.report.formats import duration, plain, quantity

Line = tuple[str, str]
_OWN_LINE = {"epochs", "train_seconds", "milestones", "peak", "target", "limit_train", "engine", "without", "select"}
_WORDS = {"label_smoothing": "the true class keeps", "swa": "swa from"}  # where the option's name is not enough
_SHOWN = 4  # notes on the data, and on the model
_CLASSES = 12  # names on a line
_LEVELS = "▁▂▃▄▅▆▇█"


def asked(record: Record) -> Iterator[Line]:
    """Return what the run was to do: method, data, model, threat model, recipe, budget, engine."""
    spec, data, train = record.spec, record.data, record.spec.train
    hyper = " ".join(f"{name}={value}" for name, value in (train.hyper if train else {}).items())
    yield "method", f"{short_name(spec.method)}  {plain(hyper, 400)}".rstrip()
    counts = f"  {data.train:,} train, {data.validation:,} validation, {data.test:,} test images" if data else ""
    kinds = f", {data.classes} classes{_names(data.class_names)}" if data else ""
    yield "data", f"{short_name(spec.dataset)}{counts}{kinds}"
    for note in data.notes[:_SHOWN] if data else ():
        yield "", plain(note, 400)
    if (train and train.limit_train) or (data and data.subset):
        yield "", "SUBSET of the training images: no result to cite"
    size = f"  {record.parameters:,} parameters" if record.parameters else ""
    yield "model", f"{short_name(spec.model)}{size}{f', {train.precision}' if train else ''}"
    for note in record.model_notes[:_SHOWN]:
        yield "", plain(note, 400)
    yield "threat", f"{spec.norm} eps {spec.eps}"
    yield from _recipe(record, train) if train else _checkpoint(record)
    if spec.eval.engine == "fast" and "autoattack" in spec.eval.evaluations:
        yield "evaluation", "AutoAttack by the fast engine"


def _names(classes: Sequence[str]) -> str:
    """The classes' names in their order, as far as they fit on a line or two."""
    named = [plain(name, 40) for name in classes[:_CLASSES]]
    return f": {', '.join(named)}{', ...' if len(classes) > _CLASSES else ''}" if named else ""


def _checkpoint(record: Record) -> Iterator[Line]:
    spec = record.spec
    entry = "" if spec.checkpoint_key is None else f", its {plain(spec.checkpoint_key)}"
    yield "checkpoint", f"sha256 {plain(spec.checkpoint or 'unknown')[:12]}{entry}, trained elsewhere"
    if spec.normalize is None:
        yield "normalised", "by nothing but the model itself"
    else:
        mean, std = (" ".join(f"{value:.4g}" for value in values) for values in spec.normalize)
        yield "normalised", plain(f"mean {mean}, std {std}", 400)


def _recipe(record: Record, train: TrainSpec) -> Iterator[Line]:
    yield "recipe", f"batches of {train.batch_size}, lr {train.lr:g} {train.schedule_text}, seed {record.spec.seed}"
    add_ons = [
        f"{words} {value:g}" if isinstance(value, float) else f"{words} {value}" for words, value in _added(train)
    ]
    if add_ons:
        yield "added", plain(", ".join(add_ons), 400)
    stopped = f", stopped by {record.budget.stopped_by}" if record.budget.stopped_by else ""
    yield "budget", f"{train.budget}{stopped}"
    if record.target:
        at = record.target.train_seconds
        yield "target", f"{plain(record.target.target)} {'not reached' if at is None else f'after {duration(at)}'}"
    yield from _engine(record)


def _added(train: TrainSpec) -> Iterator[tuple[str, object]]:
    """Yield every option of training that differs from its default, but for what has its own line."""
    for name, value in vars(train).items():
        if (
            name in OPTIONS
            and name not in _OWN_LINE
            and not FIELDS[name].is_required()
            and value != FIELDS[name].default
        ):
            yield _WORDS.get(name, name.replace("_", " ")), value


def _engine(record: Record) -> Iterator[Line]:
    engine = record.engine
    if engine is None or engine.name == "reference":
        return
    on = [plain(part) for part, in_force in engine.in_force.items() if in_force]
    yield "engine", f"{plain(engine.name)}: {', '.join(on) or 'nothing in force'}"
    for part, why in engine.notes.items():
        yield "", f"no {plain(part)}: {plain(why)}"
    costs = {"compiled": engine.compile_seconds, "captured and tried": engine.capture_seconds}
    times = [f"{what} in {duration(seconds)}" for what, seconds in costs.items() if seconds]
    if times:
        yield "", ", ".join(times)


def spent(record: Record) -> Iterator[Line]:
    """Return what the training took: time, passes, speed, energy, memory, and what was timed apart."""
    if record.spec.train:
        yield from _training(record)
    others = [f"{name} {duration(value)}" for name, value in record.timing if name != "train" and value]
    if others and (record.steps or not record.spec.train):
        yield "off the clock", ", ".join(others)
    memory = dict(record.memory)
    per_image_bytes = memory.pop("remembered_images", 0)
    if per_image_bytes:
        yield "stores", f"{per_image_bytes / 2**20:,.1f} MiB of single training images"
    if memory:
        peaks = [f"{plain(name)} {count / 2**20:,.0f} MiB" for name, count in memory.items()]
        yield "peak memory", plain(", ".join(peaks))


def _training(record: Record) -> Iterator[Line]:
    seconds, images = record.timing.train, record.steps * (record.spec.train.batch_size if record.spec.train else 0)
    if not images:
        yield "training", "no step taken"
        return
    rate = f", {images / seconds:,.0f} images/s" if seconds and not record.throughput else ""
    yield "training", f"{duration(seconds)}, {record.steps:,} steps, {record.data_passes:.4g} data passes{rate}"
    each = [f"{count / images:.3g} {name.replace('_', ' ')}" for name, count in record.passes]
    yield "passes", f"{', '.join(each)} per image and step"
    yield from _pace(record)


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
            if record.budget.train_seconds is not None:
                yield "", "nor on its accuracy: the budget is time, and a disturbed run takes fewer steps in it"
    if compute:
        peak, mfu, share = compute.peak_flops_per_second, compute.mfu, ""
        if peak is not None and mfu is not None:
            share = f", {mfu:.1%} (MFU) of the {quantity(peak, 'FLOP/s')} that matrix products reach here"
        yield "compute", f"{quantity(compute.flops_per_second, 'FLOP/s')}{share}"
    if record.energy_joules is not None:
        yield "energy", f"{quantity(record.energy_joules, 'J')} of the GPU while it trained"


def sparkline(times: Sequence[float], shares: Sequence[float], width: int = 32) -> str:
    """Return `shares` (0 to 1) over `times` (ascending) as at most `width` bars, evenly spaced in time.

    Each bar is the last value known at its time, so that a plateau is as long as it lasted.
    """
    if not times:
        return ""
    start, end = times[0], times[-1]
    if end <= start:
        return _bar(shares[-1])
    bars, known = [], 0
    for column in range(width):
        now = start + (end - start) * column / (width - 1)
        while known + 1 < len(times) and times[known + 1] <= now * (1 + 1e-9):
            known += 1
        bars.append(_bar(shares[known]))
    return "".join(bars)


def _bar(share: float) -> str:
    return _LEVELS[min(len(_LEVELS) - 1, max(0, int(share * len(_LEVELS))))]
