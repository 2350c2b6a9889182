"""Resume: what an earlier process left of a run, or why it cannot be used."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from fatbench.config.spec import FIELDS, EnginePart, RunSpec
from fatbench.environment import describe_environment
from fatbench.errors import UsageError
from fatbench.io.lock import locked
from fatbench.io.safe_read import is_directory, path_exists
from fatbench.record import PROTOCOL, Record, load, paths, save
from fatbench.runner.checkpoint import Checkpoint, read_checkpoint
from fatbench.runner.claim import same_run
from fatbench.runner.model_selection import weights_of
from fatbench.runner.observer import Observer
from fatbench.runner.record_writer import RecordWriter
from fatbench.runner.requirements import check_required
from fatbench.runner.setup import EvalContext, RunContext
from fatbench.training.weights_file import load_weights

_FILES = {"last-weights": paths.LAST_WEIGHTS, "weights": paths.WEIGHTS}
_ANEW = "`fatbench run ...` without --resume starts from scratch"
_SAME = ("method", "model", "dataset", "seed")  # what makes two runs of a folder look like one
# Of these, what one gives otherwise by mistake; who changes anything else means another run.
_MISTAKABLE = {"epochs", "train_seconds", "evaluations", "eval_precision", "eval_batch_size", "eval_engine"}


def load_trained(
    context: RunContext, output: Path, *, force: bool = False, require: Sequence[EnginePart] = ()
) -> tuple[RecordWriter | None, str]:
    """Return the writer of an identical run that was stopped after its training, its weights in the model.

    None if there is none, if it ran on another device or torch, or if its weights are not as they were written: then
    the text says so, and the model is as it was. With `force` a file that is no record is none, too.

    Raises:
        UsageError: there is a file in the record's place that is no record.
        ResourceError: it was trained without a part of the engine that `require` names.
    """
    writer = load_stopped(context, context.method.description.sha256, output, force=force)
    if writer is None or not writer.record.budget.spent or "weights" not in writer.record.artefacts:
        return None, ""
    check_required(writer.record.engine, require)
    names = [name for name in ("last-weights", "weights") if name in writer.record.artefacts]
    before = weights_of(context.model)
    try:
        for name in names:  # the one to be scored comes last, and stays
            written = writer.record.digests.get(name)
            load_weights(context.model, writer.artefact(_FILES[name]), context.spec.id, written)
    except UsageError as error:
        context.model.load_state_dict(before)
        return None, str(error)
    context.clock.resume_from(dict(writer.record.timing))
    writer.note(status="running", error=None)
    return writer, ""


def load_stopped(context: EvalContext, method_sha256: str, output: Path, *, force: bool = False) -> RecordWriter | None:
    """Return the writer of an identical unfinished run on the same device and torch, if there is one.

    Raises:
        UsageError: there is a file in its place that is no record, which `force` does not mind.
    """
    path = paths.record_in_progress(output, context.spec.id)
    record = same_run(context, method_sha256, path, force=force)
    if record is None or record.is_result or record.environment is None or record.spec != context.spec:
        return None  # the last: it was edited
    here = describe_environment(context.device)
    same = (record.environment.device, record.environment.torch) == (here.device, here.torch)
    return RecordWriter(record, output, context.clock) if same else None


def check_places(spec: RunSpec, output: Path) -> None:
    """Check that checkpoints can be written.

    Raises:
        UsageError: there is a folder, which no file can take the place of.
    """
    for file in paths.checkpoints(output, spec.id, replacing=paths.replaces_result(output, spec.id)):
        if is_directory(file) and not file.is_symlink():
            raise UsageError(f"{file} is a folder where a checkpoint must be written: move it")


def usable_checkpoints(context: RunContext, output: Path, observer: Observer, *, wanted: bool) -> Iterator[Checkpoint]:
    """Yield the checkpoints that the run can resume from, the newest first; `observer` is warned of the others.

    Raises:
        UsageError: one is `wanted`, and is of another spec, method, data, machine or protocol: the line names them.
    """
    for checkpoint in _intact_checkpoints(context.spec, output, observer):
        obstacle = _obstacle(checkpoint.facts.record, context)
        if not obstacle:
            yield checkpoint
        elif wanted:
            raise UsageError(f"cannot resume {context.spec.id}: {obstacle}; {_ANEW}")
        else:
            observer.warning(f"the checkpoint of {context.spec.id} cannot be used: {obstacle}")


def _intact_checkpoints(spec: RunSpec, output: Path, observer: Observer) -> Iterator[Checkpoint]:
    """Yield the intact checkpoints of the run, the newest first; `observer` is warned of damaged ones."""
    damage = ""
    for file in paths.checkpoints(output, spec.id, replacing=paths.replaces_result(output, spec.id)):
        if not path_exists(file):
            continue
        try:
            checkpoint = read_checkpoint(file)
        except UsageError as error:
            damage = f"{damage}; {error}" if damage else str(error)
            continue
        if damage:
            observer.warning(f"{damage}; the previous checkpoint is intact, at step {checkpoint.steps}")
        yield checkpoint
    if damage:
        observer.warning(f"{damage}; there is no other checkpoint")


def differences(stored: RunSpec, wanted: RunSpec) -> str:
    """Return which fields of the specs differ, and how, in one line; "" where none does."""
    found = _differing(stored, wanted).items()
    return ", ".join(f"{name} ({one!s:.60}, not {other!s:.60})" for name, (one, other) in found)


def _differing(stored: RunSpec, wanted: RunSpec) -> dict[str, tuple[object, object]]:
    mine, theirs = stored.flat(), wanted.flat()
    return {name: (mine.get(name), theirs.get(name)) for name in FIELDS if mine.get(name) != theirs.get(name)}


def _obstacle(record: Record, context: RunContext) -> str:
    """Return what has changed since the checkpoint was saved, or ""."""
    found = differences(record.spec, context.spec)
    if found or record.id != context.spec.id:
        return f"its checkpoint is of {f'another spec: {found}' if found else record.id}"
    here, there = describe_environment(context.device), record.environment
    known = {
        "the method's source": (record.method.sha256, context.method.description.sha256),
        "the data": (record.data and record.data.sha256, context.dataset.sha256),
        "the protocol": (record.protocol, PROTOCOL),
    }
    changed = [name for name, (before, now) in known.items() if before != now]
    if changed:
        return f"{' and '.join(changed)} changed meanwhile"
    if there is None or (there.device, there.torch) != (here.device, here.torch):
        was = "an unknown machine" if there is None else f"{there.device} with torch {there.torch}"
        return f"it was trained on {was}, and here is {here.device} with torch {here.torch}"
    return ""


def find_similar_run(spec: RunSpec, output: Path, observer: Observer) -> None:
    """Where nothing is stored of this run: say which is there that may have been meant.

    Raises:
        UsageError: one was interrupted that differs only in what is often mistyped.
    """
    if path_exists(paths.record_path(output, spec.id)):
        return
    for file in sorted(output.glob(f"*/{paths.CHECKPOINT}")):
        try:
            record = load(paths.record_path(output, file.parent.name))
        except UsageError:
            continue
        other = record.spec
        if not record.id == other.id == file.parent.name:
            continue  # edited or renamed: what it says is not what was run
        if record.status != "interrupted" or any(getattr(other, name) != getattr(spec, name) for name in _SAME):
            continue  # the status says that nobody is at it now
        found = f"{other.id}, which differs in {differences(other, spec)}"
        if _differing(other, spec).keys() <= _MISTAKABLE:
            raise UsageError(
                f"--resume: what is stored is {found}; give the same, or leave out --resume to start from scratch"
            )
        observer.warning(f"--resume: taken for another run than the interrupted {found}")
        return


def record_in_checkpoint(folder: Path, run_id: str, *, replacing: bool) -> Record | None:
    """Return the record in the newest intact checkpoint, as of an interrupted run; None without a checkpoint."""
    for file in paths.checkpoints(folder, run_id, replacing=replacing):
        try:
            found = read_checkpoint(file).facts.record if path_exists(file) else None
        except UsageError:
            continue
        if found is not None and found.id == found.spec.id == run_id:
            return found.model_copy(update={"status": "interrupted"})
    return None


def restore_record(folder: Path, run_id: str, observer: Observer) -> None:
    """Where the record of a run that is under way cannot be read, put the one in its state into its place.

    Raises:
        ResourceError: another process is at the run, or the folder cannot be written.
    """
    path = paths.record_in_progress(folder, run_id)
    if not path.is_file():
        return
    try:
        load(path)
    except UsageError as error:
        found = record_in_checkpoint(folder, run_id, replacing=path == paths.replacement_path(folder, run_id))
        if found is not None:
            with locked(folder, run_id):
                save(found, path.parent, path.name)
            observer.warning(f"{error}: the record in its checkpoint takes its place")
