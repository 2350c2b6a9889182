"""--strict: what a user who takes no risk must not rely on fails, each reason in one line."""

from __future__ import annotations

from fatbench.record import Event, Record

_OVERFITTING = "catastrophic-overfitting"


def doubts(record: Record) -> list[str]:
    """Return one line for each reason not to rely on the record."""
    found = ["the training diverged"] if record.status == "diverged" else []
    found += [_of_event(event) for event in record.events if event.kind == _OVERFITTING and _is_scored(event, record)]
    if record.diagnostics is None:
        return found
    for finding in record.diagnostics.findings:
        where = f" ({finding.evaluation})" if finding.evaluation else ""
        found.append(f"{finding.code}{where}: {finding.detail}")
    masking = record.diagnostics.masking
    if masking is not None and masking.verdict == "suspect":
        found.append(f"gradients seem to be masked: {'; '.join(masking.reasons) or 'the record gives no reason'}")
    return found


def _of_event(event: Event) -> str:
    return f"catastrophic overfitting in epoch {event.epoch}{f': {event.detail}' if event.detail else ''}"


def _is_scored(event: Event, record: Record) -> bool:
    """Whether the scores are of weights that the event had reached; restored or selected ones may be from before it."""
    return record.selection is None or record.selection.step >= event.step
