"""Ctrl-C and SIGTERM: how a run is asked to leave off, and what is said of it then."""

import shlex
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

from fatbench import methods, models, record
from fatbench.cli.complaint import INTERRUPTED, say
from fatbench.cli.entry import exit_code_of, handled
from fatbench.errors import UsageError
from fatbench.record import Record
from fatbench.record.places import final_record, has_state, replacing_record
from fatbench.regular import is_there
from fatbench.spec import RunSpec
from fatbench.stop import Stop


class Signals(Stop):
    """A wish that comes by signals: the first is heeded where nothing is lost, a second one ends the run at once."""

    exit_code = INTERRUPTED

    def heed(self, number: int, _frame: FrameType | None) -> None:
        """A signal has come.

        Raises:
            KeyboardInterrupt: nobody looks whether the run should leave off, or it was asked to already.
        """
        self.exit_code = exit_code_of(number)
        if self.asked or not self.heeded:
            raise KeyboardInterrupt
        self.asked = True


@contextmanager
def heeding_signals() -> Iterator[Signals]:
    """Let SIGINT and SIGTERM reach a run as a wish, then do what they did before; other threads get none."""
    signals = Signals()
    with handled(signals.heed):
        yield signals


def say_interrupted(spec: RunSpec, options: Mapping[str, Any], code: int = INTERRUPTED) -> int:
    """Print one line about the run `spec` that was interrupted, and return the exit code.

    Args:
        spec: of the run.
        options: it was called with; of `fatbench.runner.run`.
        code: to be returned.
    """
    output: Path = options["output"]
    final, replacing = final_record(output, spec.id), replacing_record(output, spec.id)
    path, kept = next(((path, kept) for path in (replacing, final) if (kept := _left_off(path, final))), (final, None))
    if kept is None:
        return say("interrupted; the same command starts again", code)
    what = f"interrupted; what was earned is in {path}"
    trained = spec.epochs == 0 or kept.budget.spent
    if trained and not options["force"]:
        return say(f"{what}; the same command goes on with the evaluation", code)
    if spec.epochs == 0 or not (trained or has_state(output, spec.id)):
        return say(f"{what}; the same command starts this run again", code)
    again = " ".join(["fatbench", "resume", spec.id, *_flags(spec, options)])
    return say(f"{what}; {again} goes on{' with the evaluation' if trained else ''}", code)


def own_code(spec: RunSpec) -> dict[str, str]:
    """Return the method and the model of the spec that are code of a user's own, by flag."""
    method = {} if spec.method in methods.names() else {"--method": spec.method}
    return method | ({} if spec.model in models.names() else {"--model": spec.model})


def _flags(spec: RunSpec, options: Mapping[str, Any]) -> list[str]:
    """Return what `fatbench resume` has to be told besides the run's id, as a shell reads it."""
    output, data_dir = options["output"], options.get("data_dir")
    flags = dict(own_code(spec))
    if output != Path("results"):
        flags["--output"] = str(output)
    if data_dir is not None:
        flags["--data-dir"] = str(data_dir)
    return [shlex.quote(word) for flag in flags.items() for word in flag]


def _left_off(path: Path, final: Path) -> Record | None:
    """Return the record at `path` if its run was interrupted, or has yet to take the place of the result at `final`."""
    try:
        found = record.load(path) if is_there(path) else None
    except UsageError:
        return None
    if found is None:
        return None
    return found if found.status == "interrupted" or (found.finished and path != final) else None
