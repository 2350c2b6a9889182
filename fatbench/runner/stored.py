"""What an earlier process has left of a run: a result, or trained weights that have not been scored to the end."""

from collections.abc import Sequence
from pathlib import Path

from fatbench.environment import describe_environment
from fatbench.errors import UsageError
from fatbench.record import PROTOCOL, Record, load
from fatbench.record.places import final_record
from fatbench.regular import is_there
from fatbench.runner.bench import Bench, Candidate
from fatbench.runner.journal import Journal, record_in_progress
from fatbench.runner.keeper import weights_of
from fatbench.runner.requirements import check_required
from fatbench.spec import Toggle
from fatbench.training.checkpoint import FILE, LAST_FILE, load_weights

_FILES = {"last-weights": LAST_FILE, "weights": FILE}


def finished_record(candidate: Candidate, method_sha256: str, output: Path) -> Record | None:
    """Return the finished record of an identical run: the same spec, method source, data and protocol.

    Raises:
        UsageError: there is a file in its place that is no record.
    """
    record = _same_run(candidate, method_sha256, final_record(output, candidate.spec.id))
    return record if record is not None and record.finished else None


def trained_journal(
    bench: Bench, output: Path, *, force: bool = False, require: Sequence[Toggle] = ()
) -> tuple[Journal | None, str]:
    """Return the journal of an identical run that was stopped after its training, its weights in the model.

    None if there is none, if it ran on another device or torch, or if its weights are not as they were written: then
    the text says so, and the model is as it was. With `force` a file that is no record is none, too.

    Raises:
        UsageError: there is a file in the record's place that is no record.
        ResourceError: it was trained without a part of the engine that `require` names.
    """
    journal = stopped_journal(bench, bench.method.description.sha256, output, force=force)
    if journal is None or not journal.record.budget.spent or "weights" not in journal.record.artefacts:
        return None, ""
    check_required(journal.record.engine, require)
    names = [name for name in ("last-weights", "weights") if name in journal.record.artefacts]
    before = weights_of(bench.model)
    try:
        for name in names:  # the one to be scored comes last, and stays
            written = journal.record.digests.get(name)
            load_weights(bench.model, journal.artefact(_FILES[name]), bench.spec.id, written)
    except UsageError as error:
        bench.model.load_state_dict(before)
        return None, str(error)
    bench.clock.carry(dict(journal.record.timing))
    journal.note(status="running", error=None)
    return journal, ""


def stopped_journal(candidate: Candidate, method_sha256: str, output: Path, *, force: bool = False) -> Journal | None:
    """Return the journal of an identical run on the same device and torch that has no result, if there is one.

    Raises:
        UsageError: there is a file in its place that is no record, which `force` does not mind.
    """
    path = record_in_progress(output, candidate.spec.id)
    record = _same_run(candidate, method_sha256, path, force=force)
    if record is None or record.finished or record.environment is None or record.spec != candidate.spec:
        return None  # the last: it was edited
    here = describe_environment(candidate.device)
    same = (record.environment.device, record.environment.torch) == (here.device, here.torch)
    return Journal(record, output, candidate.clock) if same else None


def _same_run(candidate: Candidate, method_sha256: str, path: Path, *, force: bool = False) -> Record | None:
    if not is_there(path):
        return None
    try:
        record = load(path)
    except UsageError as error:
        if force:
            return None
        raise UsageError(f"{error}; the same command with --force replaces it") from None
    same_data = record.data is not None and record.data.sha256 == candidate.dataset.sha256
    same = record.method.sha256 == method_sha256 and same_data and record.protocol == PROTOCOL
    return record if same and record.id == candidate.spec.id else None
