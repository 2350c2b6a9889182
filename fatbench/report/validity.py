"""Reasons to distrust a result, in one place: what --strict fails on and what tables say beside the numbers."""

from typing import Literal, NamedTuple

from fatbench.record import Record
from fatbench.record.parts import OVERFITTING, Event
from fatbench.report.formats import percent, plain
from fatbench.statistics import wilson

_CERTAIN = 0.99
NOISY = "noisy"  # among a run's events: its time is not to be relied on


class Reason(NamedTuple):
    """Why the scores of a run may not mean what they seem to."""

    kind: Literal["status", "event", "chance", "contract", "masking"]
    label: str  # for a cell of a table
    detail: str  # one line


def reasons_to_distrust(record: Record) -> list[Reason]:
    """Return the reasons not to rely on the record's scores; none for most."""
    found = [Reason("status", "diverged", "the training diverged")] if record.status == "diverged" else []
    found += [_of_event(event) for event in record.events if event.kind == OVERFITTING and _is_scored(event, record)]
    found += [one for one in [guessing(record)] if one]
    if record.diagnostics is None:
        return found
    for finding in record.diagnostics.findings:
        where = f" ({finding.evaluation})" if finding.evaluation else ""
        label = plain(f"contract: {finding.code}")
        found.append(Reason("contract", label, f"{finding.code}{where}: {finding.detail}"))
    masking = record.diagnostics.masking
    if masking is not None and masking.verdict == "suspect":
        why = "; ".join(masking.reasons) or "the record gives no reason"
        found.append(Reason("masking", "suspect: gradient masking", f"gradients seem to be masked: {why}"))
    return found


def findings(record: Record) -> set[str]:
    """Return the labels of all reasons but status and events, which have cells of their own."""
    return {one.label for one in reasons_to_distrust(record) if one.kind not in ("status", "event")}


def guessing(record: Record) -> Reason | None:
    """Return the reason to distrust a network that guesses; None for one that learned, and for too few images to say.

    It guesses if the 95% Wilson interval of its clean accuracy does not lie above that of guessing, while the 99% one
    stays below three times the odds of guessing: few images say nothing. Guessing names the most frequent class.
    """
    counts = [(score.total, score.correct if name == "clean" else score.clean) for name, score in record.scores.items()]
    total, correct = max(((total, clean) for total, clean in counts if clean is not None), default=(0, 0))
    data = record.data
    if not total or data is None or data.classes < 2 or record.status == "diverged":
        return None
    uniform = 1 / data.classes
    chance = max(uniform, data.most_frequent / data.test if data.most_frequent < data.test else 0.0)
    low, high = wilson(correct, total)
    if low > chance or wilson(correct, total, _CERTAIN)[1] > 3 * chance / (1 + 2 * chance):
        return None
    if high < uniform:
        label, why = "below chance", "are labels or classes in another order?"
    elif record.spec.train is None:
        label, why = "near chance", "wrong normalisation, order of classes, or weights?"
    else:
        label, why = "near chance", "it learned nothing; try another --lr or a longer budget"
    counted = f"{percent(correct / total)}% ({correct:,} of {total:,})"
    return Reason("chance", label, f"{label}: clean accuracy is {counted}, that of guessing {percent(chance)}%: {why}")


def events(record: Record) -> set[str]:
    """Return the kinds of event of a run, without what its status says, and whether its time is noisy."""
    noisy = record.status == "finished" and record.throughput is not None and record.throughput.noisy
    return {plain(event.kind) for event in record.events if event.kind != record.status} | ({NOISY} if noisy else set())


def selection(record: Record) -> set[str]:
    """Return which weights the scores are of, where they are not the last ones."""
    chosen = record.selection
    if chosen is None or chosen.policy == "last":
        return set()
    on = f" on val {chosen.on}" if chosen.on and chosen.policy == "best" else ""
    return {plain(f"{chosen.policy}{on}")}


def _of_event(event: Event) -> Reason:
    detail = f"catastrophic overfitting in epoch {event.epoch}{f': {event.detail}' if event.detail else ''}"
    return Reason("event", event.kind, detail)


def _is_scored(event: Event, record: Record) -> bool:
    """Whether the scores are of weights that the event had reached; restored or selected ones may be from before it."""
    return record.selection is None or record.selection.step >= event.step
