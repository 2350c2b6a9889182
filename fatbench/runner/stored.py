"""What an earlier process has left of a run: a result, or trained weights that have not been scored to the end."""

from pathlib import Path

from fatbench.environment import describe_environment
from fatbench.errors import UsageError
from fatbench.record import PROTOCOL, Record, load
from fatbench.runner.bench import Bench, Candidate
from fatbench.runner.journal import Journal
from fatbench.training.checkpoint import FILE, LAST_FILE, load_weights

_COMPLETE = ("epochs", "time", "target", "overfitting")  # what ends a training that is worth scoring


def finished_record(candidate: Candidate, method_sha256: str, output: Path) -> Record | None:
    """Return the finished record of an identical run: the same spec, method source, data and protocol.

    Raises:
        UsageError: there is a file in its place that is no record.
    """
    record = _same_run(candidate, method_sha256, output)
    return record if record is not None and record.finished else None


def trained_journal(bench: Bench, output: Path) -> Journal | None:
    """Return the journal of an identical run that was stopped after its training, its weights in the model.

    None if there is none, if it ran on another device or torch, or if its weights cannot be loaded.
    """
    journal = stopped_journal(bench, bench.method.description.sha256, output)
    if journal is None or journal.record.budget.stopped_by not in _COMPLETE:
        return None
    files = [LAST_FILE, FILE] if "last-weights" in journal.record.artefacts else [FILE]
    try:
        for file in files:  # the one to be scored comes last, and stays
            load_weights(bench.model, journal.artefact(file), bench.spec.id)
    except UsageError:
        return None
    bench.clock.carry(dict(journal.record.timing))
    journal.note(status="running", error=None)
    return journal


def stopped_journal(candidate: Candidate, method_sha256: str, output: Path) -> Journal | None:
    """Return the journal of an identical run on the same device and torch that has no result, if there is one."""
    record = _same_run(candidate, method_sha256, output)
    if record is None or record.finished or record.environment is None:
        return None
    here = describe_environment(candidate.device)
    same = (record.environment.device, record.environment.torch) == (here.device, here.torch)
    return Journal(record, output, candidate.clock) if same else None


def _same_run(candidate: Candidate, method_sha256: str, output: Path) -> Record | None:
    path = output / f"{candidate.spec.id}.json"
    if not path.exists():
        return None
    try:
        record = load(path)
    except UsageError as error:
        raise UsageError(f"{error}; --force replaces it") from None
    same_data = record.data is not None and record.data.sha256 == candidate.dataset.sha256
    same = record.method.sha256 == method_sha256 and same_data and record.protocol == PROTOCOL
    return record if same else None
