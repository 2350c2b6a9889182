"""Grading: score a candidate, look for reasons to doubt the scores, and keep what became of every image."""

import shutil
from collections.abc import Sequence

import torch
from torch import Tensor

from fatbench.environment import peak_memory, reset_peak_memory
from fatbench.evaluation.masking import look_for_signs, verdict
from fatbench.notation import PGD, parse_evaluation
from fatbench.record import Diagnostics, Finding, Masking
from fatbench.record.samples import FILE, save_samples
from fatbench.runner.bench import Candidate
from fatbench.runner.journal import Journal
from fatbench.runner.memory import named_peaks
from fatbench.runner.observer import Observer
from fatbench.runner.remembered import remembered
from fatbench.runner.scoring import Results, sit_exams
from fatbench.training.checkpoint import LAST_FILE, load_weights

_STATE = "evaluation"  # the folder in which evaluations that are not complete keep what they have found
_STATE_OF_LAST = "evaluation-of-last"


def grade(candidate: Candidate, journal: Journal, observer: Observer, doubts: Sequence[Finding] = ()) -> None:
    """Run every evaluation that the spec names, and diagnose; all of it goes into the journal as it comes.

    What the journal's record and the samples beside it know already is not run again. `doubts` are there already.
    """
    reset_peak_memory(candidate.device)
    state, file = journal.artefact(_STATE), journal.artefact(FILE)
    known = remembered(candidate, journal.record, file)
    journal.note(scores={name: sat.sitting.score for name, sat in known.items()})

    def done(name: str, results: Results) -> None:
        save_samples(results.samples(candidate), file)  # before the score, which is believed only beside them
        journal.keep("samples", file)
        scores = {**journal.record.scores, name: results.by_name[name].sitting.score}
        journal.note(scores=scores, diagnostics=Diagnostics(findings=results.findings))

    results = sit_exams(candidate, observer, state, done, known)
    observer.stage("diagnosing")
    with candidate.clock.phase("evaluation"):
        masking = _masking(candidate, results)
    memory = {**journal.record.memory, **named_peaks(peak_memory(candidate.device), "evaluation")}
    journal.note(diagnostics=Diagnostics(findings=[*doubts, *results.findings], masking=masking), memory=memory)
    shutil.rmtree(state, ignore_errors=True)


def grade_last(candidate: Candidate, journal: Journal, observer: Observer) -> None:
    """Where the scores are not of the last weights, score these too, beside them: both numbers stay in the record."""
    selection = journal.record.selection
    if "last-weights" not in journal.record.artefacts or selection is None:
        return
    written = journal.record.digests.get("last-weights")
    load_weights(candidate.model, journal.artefact(LAST_FILE), candidate.spec.id, written)
    state = journal.artefact(_STATE_OF_LAST)
    results = sit_exams(candidate, observer, state, lambda *_: None)
    scores = {name: sat.sitting.score for name, sat in results.by_name.items()}
    journal.note(selection=selection.model_copy(update={"last_scores": scores}))
    shutil.rmtree(state, ignore_errors=True)


def _masking(candidate: Candidate, results: Results) -> Masking | None:
    """Whether gradients are masked, seen on images of the two strongest attacks; None if nothing attacked."""
    attacks = [name for name in results.by_name if name != "clean"]
    if not attacks:
        return None
    rows = _common(results, sorted(attacks, key=_strength)[-2:])
    sittings = {name: sitting for name in results.by_name if (sitting := results.of(name, rows)) is not None}
    return verdict(look_for_signs(candidate.exam(rows), candidate.model), sittings)


def _common(results: Results, attacks: Sequence[str]) -> Tensor:
    """The rows that all these attacks were about; those of the last where they share none."""
    rows = [set(results.by_name[name].rows.tolist()) for name in attacks]
    return torch.tensor(sorted(set.intersection(*rows) or rows[-1]))


def _strength(name: str) -> float:
    what = parse_evaluation(name)
    return what.steps * what.restarts if isinstance(what, PGD) else float("inf") if what == "autoattack" else 0
