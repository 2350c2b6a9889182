"""Resuming: what an earlier process has saved of the same training, or why it cannot be gone on with."""

from collections.abc import Iterator
from pathlib import Path

from fatbench.environment import describe_environment
from fatbench.errors import UsageError
from fatbench.record import PROTOCOL, Record, load
from fatbench.record.places import artefact, final_record
from fatbench.regular import is_folder, is_there
from fatbench.runner.bench import Bench
from fatbench.runner.journal import replaces_result
from fatbench.runner.observer import Observer
from fatbench.runner.saved import BEFORE, FILE, Saved, read_saved
from fatbench.spec import RunSpec

_ANEW = "`fatbench run ...` without --resume starts anew"
_SAME = ("method", "model", "dataset", "seed")  # what makes two runs of a folder look like one
# Of these, what one gives otherwise by mistake; who changes anything else means another run.
_MISTAKABLE = {"epochs", "train_seconds", "evaluations", "eval_precision", "eval_batch_size", "eval_engine"}


def check_places(spec: RunSpec, output: Path) -> None:
    """Look whether states could be written where they belong.

    Raises:
        UsageError: there is a folder, which no file can take the place of.
    """
    replacing = replaces_result(output, spec.id)
    for file in (artefact(output, spec.id, name, replacing=replacing) for name in (FILE, BEFORE)):
        if is_folder(file) and not file.is_symlink():
            raise UsageError(f"{file} is a folder, and the place of a state: move it away")


def usable_states(bench: Bench, output: Path, observer: Observer, *, wanted: bool) -> Iterator[Saved]:
    """Yield the states that the run `bench` can go on from, the newest first; `observer` hears of the others.

    Raises:
        UsageError: one is `wanted`, and is of another spec, method, data, machine or protocol: the line names them.
    """
    for saved in _whole_states(bench.spec, output, observer):
        obstacle = _obstacle(saved.facts.record, bench)
        if not obstacle:
            yield saved
        elif wanted:
            raise UsageError(f"cannot go on with {bench.spec.id}: {obstacle}; {_ANEW}")
        else:
            observer.remark(f"what an earlier process has left of {bench.spec.id} is of no use: {obstacle}")


def _whole_states(spec: RunSpec, output: Path, observer: Observer) -> Iterator[Saved]:
    """Yield the whole states in the place of the run's, the newest first; `observer` hears of damaged ones."""
    replacing = replaces_result(output, spec.id)
    damage = ""
    for name in (FILE, BEFORE):
        file = artefact(output, spec.id, name, replacing=replacing)
        if not is_there(file):
            continue
        try:
            saved = read_saved(file)
        except UsageError as error:
            damage = f"{damage}; {error}" if damage else str(error)
            continue
        if damage:
            observer.remark(f"{damage}; the state before it is whole, at step {saved.steps}")
        yield saved
    if damage:
        observer.remark(f"{damage}; no other state is there")


def differences(stored: RunSpec, wanted: RunSpec) -> str:
    """Return which fields of the specs differ, and how, in one line; "" where none does."""
    mine, theirs = stored.model_dump(mode="json"), wanted.model_dump(mode="json")
    pairs = [(name, mine[name], theirs[name]) for name in mine if name in _differing(stored, wanted)]
    return ", ".join(f"{name} ({one!s:.60}, not {other!s:.60})" for name, one, other in pairs)


def _differing(stored: RunSpec, wanted: RunSpec) -> set[str]:
    return {name for name in RunSpec.model_fields if getattr(stored, name) != getattr(wanted, name)}


def _obstacle(record: Record, bench: Bench) -> str:
    """Return what has changed since the state was saved, or ""."""
    found = differences(record.spec, bench.spec)
    if found or record.id != bench.spec.id:
        return f"its state is of {f'another spec: {found}' if found else record.id}"
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


def look_for_another(spec: RunSpec, output: Path, observer: Observer) -> None:
    """Where nothing is stored of this run: say which is there that may have been meant.

    Raises:
        UsageError: one was interrupted that differs only in what is often mistyped.
    """
    if is_there(final_record(output, spec.id)):
        return
    for file in sorted(output.glob(f"*/{FILE}")):
        try:
            record = load(final_record(output, file.parent.name))
        except UsageError:
            continue
        other = record.spec
        if not record.id == other.id == file.parent.name:
            continue  # edited or renamed: what it says is not what was run
        if record.status != "interrupted" or any(getattr(other, name) != getattr(spec, name) for name in _SAME):
            continue  # the status says that nobody is at it now
        found = f"{other.id}, which differs in {differences(other, spec)}"
        if _differing(other, spec) <= _MISTAKABLE:
            raise UsageError(f"--resume: what is stored is {found}; give the same, or leave out --resume to start anew")
        observer.remark(f"--resume: taken for another run than the interrupted {found}")
        return
