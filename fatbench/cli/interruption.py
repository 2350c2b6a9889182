"""Ctrl-C: what was kept, and what the same command will do next time."""

from pathlib import Path

from fatbench import record
from fatbench.cli.complaint import INTERRUPTED, say
from fatbench.errors import UsageError
from fatbench.record import Record
from fatbench.spec import RunSpec


def say_interrupted(spec: RunSpec, output: Path) -> int:
    """Print one line about the run `spec` that was interrupted, and return the exit code."""
    places = (output / spec.id / "running.json", output / f"{spec.id}.json")
    found = [(path, kept) for path in places if (kept := _interrupted(path)) is not None]
    if not found:
        return say("interrupted; the same command starts again", INTERRUPTED)
    path, kept = found[0]
    trained = spec.epochs == 0 or "weights" in kept.artefacts
    again = "goes on with the evaluation" if trained and path == places[1] else "starts this run again"
    return say(f"interrupted; what was earned is in {path}; the same command {again}", INTERRUPTED)


def _interrupted(path: Path) -> Record | None:
    try:
        found = record.load(path) if path.exists() else None
    except UsageError:
        return None
    return found if found is not None and found.status == "interrupted" else None
