"""Outcomes: what one evaluation made of every image in several runs, the images matched between them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import TYPE_CHECKING

from fatbench.errors import UsageError
from fatbench.record import Record
from fatbench.record.samples import NOT_EVALUATED, STANDING, Outcome, Samples, load_samples
from fatbench.report.run import Run

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_ARTEFACT = "samples"  # its name in a record
_REMEDY = "each run keeps its own folder beside its record"


@dataclass(frozen=True, eq=False)
class Outcomes:
    """The images of several runs under one evaluation, a line per run; images that a run did not see are marked."""

    broken_by: NDArray[np.int8]  # (runs, images): as in record.samples.Outcome

    def standing(self, lines: Sequence[int]) -> NDArray[np.bool_]:
        """(len(lines), n) whether each of the n images that all these runs were tested on stood."""
        taken = self.broken_by[list(lines)]
        standing: NDArray[np.bool_] = taken[:, (taken != NOT_EVALUATED).all(axis=0)] == STANDING
        return standing


def has_samples(run: Run) -> bool:
    """Return whether the record says that its outcomes lie beside it; no file is touched."""
    return run.path is not None and _ARTEFACT in run.record.artefacts


def samples_of(run: Run, evaluation: str) -> Samples | None:
    """Return the samples beside a record, if there are any of that evaluation.

    Raises:
        UsageError: they are damaged, or not of this record.
    """
    if run.path is None or not has_samples(run):
        return None
    file = _inside(run.path, run.record.artefacts[_ARTEFACT])
    if not file.is_file():
        return None
    samples = load_samples(file)
    outcome = samples.outcomes.get(evaluation)
    if outcome is None:
        return None
    _check_counts(outcome, run.record, evaluation, file)
    return samples


def matched(samples: Sequence[Samples], evaluation: str, ids: Sequence[str]) -> Outcomes:
    """Return the outcomes of all the runs that `samples` are of, an image being the same where its pixels are.

    Images that are equal within a run are told apart by their order. `ids` are what to call the runs.

    Raises:
        UsageError: an image has one label in one run and another in another.
    """
    import numpy as np

    hashes = np.concatenate([one.hashes for one in samples])
    _, kinds = np.unique(hashes, return_inverse=True)
    repeats = np.concatenate([_repeats(one.hashes) for one in samples])
    _, images = np.unique(kinds * (int(repeats.max(initial=0)) + 1) + repeats, return_inverse=True)
    broken_by = np.full((len(samples), int(images.max(initial=-1)) + 1), NOT_EVALUATED, dtype=np.int8)
    labels = np.empty(broken_by.shape[1], dtype=np.int64)
    labels[images] = np.concatenate([one.labels for one in samples])
    start = 0
    for line, one in enumerate(samples):
        mine = images[start : start + len(one.hashes)]
        start += len(one.hashes)
        if not np.array_equal(labels[mine], one.labels):
            raise UsageError(
                f"{ids[line]} was tested on the same images as others here, but with other labels: compare them apart"
            )
        broken_by[line, mine] = one.outcomes[evaluation].broken_by
    return Outcomes(broken_by)


def _repeats(hashes: NDArray[np.uint64]) -> NDArray[np.int64]:
    """(N,) how many images before each are equal to it."""
    import numpy as np

    order = np.argsort(hashes, kind="stable")
    ordered = hashes[order]
    new = np.concatenate([np.ones(min(1, len(hashes)), dtype=bool), ordered[1:] != ordered[:-1]])
    place = np.arange(len(hashes))
    repeats = np.empty(len(hashes), dtype=np.int64)
    repeats[order] = place - np.maximum.accumulate(np.where(new, place, 0))
    return repeats


def _inside(record: Path, name: str) -> Path:
    """The file that a record calls `name`: records are untrusted, so it must lie below the record's folder."""
    if PurePosixPath(name).is_absolute() or PureWindowsPath(name).anchor or ".." in PureWindowsPath(name).parts:
        raise UsageError(f"{record} names '{name:.80}' for its outcomes, outside its folder: {_REMEDY}")
    folder = record.parent
    try:
        inside = (folder / name).resolve().is_relative_to(folder.resolve())
    except (OSError, ValueError, RuntimeError):  # a null character, a loop of links
        inside = False
    if not inside:
        raise UsageError(f"{record} names '{name:.80}' for its outcomes, which is not below its folder: {_REMEDY}")
    return folder / name


def _check_counts(outcome: Outcome, record: Record, evaluation: str, file: Path) -> None:
    score = record.scores.get(evaluation)
    counted = int(outcome.standing.sum()), int(outcome.evaluated.sum())
    if score is None or counted != (score.correct, score.total):
        said = f"{score.correct} of {score.total}" if score else "nothing"
        raise UsageError(
            f"{file} is not of {record.id}: {evaluation:.40} is {counted[0]} of {counted[1]} in it, and {said} in the"
            f" record; `fatbench run ... --force` makes it again"
        )
