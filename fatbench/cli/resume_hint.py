"""What to say about an interrupted or failed run: the command that resumes it."""

import shlex
from pathlib import Path

from fatbench import methods, models, record
from fatbench.cli.console import say
from fatbench.cli.signals import INTERRUPTED, ignore_signals
from fatbench.config.request import DEFAULT_OUTPUT, RunOptions
from fatbench.config.spec import RunSpec
from fatbench.errors import FatbenchError, UsageError, WriteError
from fatbench.io.lock import is_held
from fatbench.io.safe_read import path_exists
from fatbench.record import Record
from fatbench.record.paths import has_checkpoint, record_in_progress

_LONGEST = 300  # characters of what went wrong: the remedy must fit into the line too


def own_code(spec: RunSpec) -> dict[str, str]:
    """Return the method and the model of the spec that are code of a user's own, by flag."""
    method = {} if spec.method in methods.names() else {"--method": spec.method}
    return method | ({} if spec.model in models.names() else {"--model": spec.model})


def resume_command(spec: RunSpec, output: Path, data_dir: Path | None = None) -> str:
    """Return the whole command that resumes the run, quoted for a shell."""
    flags = own_code(spec)
    if output != DEFAULT_OUTPUT:
        flags["--output"] = str(output)
    if data_dir is not None:
        flags["--data-dir"] = str(data_dir)
    return " ".join(["fatbench", "resume", spec.id, *(shlex.quote(word) for flag in flags.items() for word in flag)])


def resume_hint(kept: Record, output: Path, data_dir: Path | None = None) -> str | None:
    """Return the command that resumes a run, given its record and --data-dir; None where there is nothing to resume."""
    if not (kept.budget.spent or has_checkpoint(output, kept.spec.id)):
        return None
    return resume_command(kept.spec, output, data_dir)


def interruption_hint(spec: RunSpec, how: RunOptions) -> str:
    """Return what there is of the interrupted run `spec`, and how to resume it."""
    found = _interrupted(how.output, spec.id)
    if found is None:
        return "the same command starts again"
    path, kept = found
    earned = f"partial results are in {path}"
    if spec.train is None:
        what = "starts this run again" if how.force else "resumes the evaluation"
        return f"{earned}; the same command {what}"
    again = resume_hint(kept, how.output, how.data_dir)
    if again is not None:
        return f"{earned}; {again} resumes{' the evaluation' * kept.budget.spent}"
    if kept.steps or kept.history:
        return f"{earned}; the same command starts this run again"
    return f"{spec.id} has nothing to resume yet; the same command starts it again"


def report_interrupted(spec: RunSpec, how: RunOptions, code: int = INTERRUPTED) -> int:
    """Print one line about the interrupted run `spec`, and return the exit code; see `interruption_hint`."""
    ignore_signals()
    return say(f"interrupted; {interruption_hint(spec, how)}", code)


def with_resume_hint(error: Exception, spec: RunSpec, how: RunOptions) -> Exception:
    """Return the error with the command that resumes the run once the cause is fixed, if there is one."""
    found = _unfinished(how.output, spec.id)
    if found is None or not isinstance(error, FatbenchError):
        return error
    _, kept = found
    again = resume_hint(kept, how.output, how.data_dir)
    if again is None:
        return error
    if isinstance(error, WriteError):
        mended: FatbenchError = FatbenchError(f"{error.problem}; {error.remedy}, then {again} resumes")
    elif kept.status == "failed" and kept.error == str(error):  # else it did not come to run at all
        mended = FatbenchError(f"{error!s:.{_LONGEST}}; once that is fixed, {again} resumes")
    else:
        return error
    mended.exit_code = error.exit_code
    return mended


def _interrupted(output: Path, run_id: str) -> tuple[Path, Record] | None:
    """Return the record of the run if it was interrupted, or has yet to take a result's place, and where it is.

    One that is still said to be running was interrupted too, where no process is at it: a second signal ends a run at
    once.
    """
    found = _unfinished(output, run_id)
    if found is None:
        return None
    path, kept = found
    running = kept.status == "running" and is_held(output, run_id)
    return None if running or kept.status == "failed" else (path, kept)


def _unfinished(output: Path, run_id: str) -> tuple[Path, Record] | None:
    """Return the record of the run, and where it is, unless it is a result that stands."""
    path = record_in_progress(output, run_id)
    try:
        return (path, record.load(path)) if path_exists(path) else None
    except UsageError:
        return None
