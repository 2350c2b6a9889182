"""Resuming: what an earlier process has saved of the same training, or why it cannot be gone on with."""

from pathlib import Path

from fatbench.environment import describe_environment
from fatbench.errors import UsageError
from fatbench.record import PROTOCOL, Record, load
from fatbench.regular import is_there
from fatbench.runner.bench import Bench
from fatbench.runner.journal import artefact_of
from fatbench.runner.observer import Observer
from fatbench.runner.saved import BEFORE, FILE, Saved, read_saved
from fatbench.spec import RunSpec

_SAME = ("method", "model", "dataset", "seed")  # what makes two runs of a folder look like one


def saved_run(bench: Bench, output: Path, observer: Observer) -> Saved | None:
    """Return the newest whole state of the run `bench`, or None; `observer` hears of damaged ones.

    Raises:
        UsageError: there is one, but of another spec, method, data, machine or protocol: the line names them.
    """
    saved = stored_state(bench.spec, output, observer)
    if saved is None:
        _refuse_another(bench.spec, output)
        return None
    obstacle = _obstacle(saved.facts.record, bench)
    if obstacle:
        raise UsageError(f"cannot go on with {bench.spec.id}: {obstacle}; without --resume it starts anew")
    return saved


def stored_state(spec: RunSpec, output: Path, observer: Observer) -> Saved | None:
    """Return the newest whole state in the place of the run's, or None; `observer` hears of damaged ones."""
    files = [artefact_of(output, spec.id, name) for name in (FILE, BEFORE)]
    damage = ""
    for file in files:
        if not is_there(file):
            continue
        try:
            saved = read_saved(file)
        except UsageError as error:
            damage = f"{damage}; {error}" if damage else str(error)
            continue
        if damage:
            observer.remark(f"{damage}; the state before it is whole, at step {saved.steps}")
        return saved
    if damage:
        observer.remark(f"{damage}; no other state is there")
    return None


def differences(stored: RunSpec, wanted: RunSpec) -> str:
    """Return which fields of the specs differ, and how, in one line; "" where none does."""
    mine, theirs = stored.model_dump(mode="json"), wanted.model_dump(mode="json")
    pairs = [(name, mine[name], theirs[name]) for name in mine if mine[name] != theirs[name]]
    return ", ".join(f"{name} ({one!s:.60}, not {other!s:.60})" for name, one, other in pairs)


def _obstacle(record: Record, bench: Bench) -> str:
    """Return what has changed since the state was saved, or ""."""
    found = differences(record.spec, bench.spec)
    if found:
        return f"its state is of another spec: {found}"
    here, there = describe_environment(bench.device), record.environment
    known = {
        "the method's source": (record.method.sha256, bench.method.description.sha256),
        "the data": (record.data and record.data.sha256, bench.dataset.sha256),
        "the protocol": (record.protocol, PROTOCOL),
    }
    changed = [name for name, (before, now) in known.items() if before != now]
    if changed:
        return f"{' and '.join(changed)} changed meanwhile"
    if there is None or (there.device, there.torch) != (here.device, here.torch):
        was = "an unknown machine" if there is None else f"{there.device} with torch {there.torch}"
        return f"it was trained on {was}, and here is {here.device} with torch {here.torch}"
    return ""


def _refuse_another(spec: RunSpec, output: Path) -> None:
    """Where nothing of this run is stored, but the state of one that was meant to be it: say in what they differ."""
    if (output / f"{spec.id}.json").exists():
        return
    for file in sorted(output.glob(f"*/{FILE}")):
        try:
            other = load(output / f"{file.parent.name}.json").spec
        except UsageError:
            continue
        if all(getattr(other, name) == getattr(spec, name) for name in _SAME):
            raise UsageError(
                f"--resume: what is stored is {other.id}, which differs in {differences(other, spec)}; "
                "give the same, or leave out --resume to start anew"
            )
