"""Grading: score a candidate, look for reasons to doubt the scores, and keep what became of every image."""

import shutil

from fatbench.environment import reset_peak_memory
from fatbench.evaluation.masking import look_for_signs, verdict
from fatbench.record import Diagnostics, Masking
from fatbench.record.samples import FILE, save_samples
from fatbench.runner.bench import Candidate
from fatbench.runner.journal import Journal
from fatbench.runner.memory import peaks
from fatbench.runner.observer import Observer
from fatbench.runner.scoring import Results, Sat, sit_exams
from fatbench.spec import PGD, parse_evaluation
from fatbench.training.checkpoint import load_weights

_STATE = "evaluation"  # the folder in which evaluations that are not complete keep what they have found
_STATE_OF_LAST = "evaluation-of-last"


def grade(candidate: Candidate, journal: Journal, observer: Observer) -> None:
    """Run every evaluation that the spec names, and diagnose; all of it goes into the journal as it comes."""
    reset_peak_memory(candidate.device)

    def done(name: str, sat: Sat) -> None:
        journal.note(scores={**journal.record.scores, name: sat.sitting.score})

    state = journal.artefact(_STATE)
    results = sit_exams(candidate, observer, state, done)
    if results.by_name:
        save_samples(results.samples(candidate), journal.artefact(FILE))
        journal.keep("samples", journal.artefact(FILE))
    observer.stage("diagnosing")
    with candidate.clock.phase("evaluation"):
        masking = _masking(candidate, results)
    memory = {**journal.record.memory, **peaks(candidate.device, "evaluation")}
    journal.note(diagnostics=Diagnostics(findings=results.findings, masking=masking), memory=memory)
    shutil.rmtree(state, ignore_errors=True)


def grade_last(candidate: Candidate, journal: Journal, observer: Observer) -> None:
    """Where the scores are not of the last weights, score these too, beside them: both numbers stay in the record."""
    file, selection = journal.record.artefacts.get("last-weights"), journal.record.selection
    if file is None or selection is None:
        return
    load_weights(candidate.model, journal.folder / file)
    state = journal.artefact(_STATE_OF_LAST)
    results = sit_exams(candidate, observer, state, lambda *_: None)
    scores = {name: sat.sitting.score for name, sat in results.by_name.items()}
    journal.note(selection=selection.model_copy(update={"last_scores": scores}))
    shutil.rmtree(state, ignore_errors=True)


def _masking(candidate: Candidate, results: Results) -> Masking | None:
    """Whether gradients are masked, seen on the images of the strongest attack; None if nothing attacked."""
    attacks = [name for name in results.by_name if name != "clean"]
    if not attacks:
        return None
    rows = results.by_name[max(attacks, key=_strength)].rows
    sittings = {name: sitting for name in results.by_name if (sitting := results.of(name, rows)) is not None}
    return verdict(look_for_signs(candidate.exam(rows), candidate.model), sittings)


def _strength(name: str) -> float:
    what = parse_evaluation(name)
    return what.steps * what.restarts if isinstance(what, PGD) else float("inf") if what == "autoattack" else 0
