"""What a reader must know of a run beside its numbers: events, doubts about the scores, which weights they are of."""

from fatbench.record import Record
from fatbench.report.plain import plain

NOISY = "noisy"  # among a run's events: its time is not to be relied on


def events(record: Record) -> set[str]:
    """Return the kinds of event of a run; what its status says is left out."""
    noisy = record.status == "finished" and record.throughput is not None and record.throughput.noisy
    return {plain(event.kind) for event in record.events if event.kind != record.status} | ({NOISY} if noisy else set())


def doubts(record: Record) -> set[str]:
    """Return the reasons for which the scores of a run may not mean what they seem to."""
    found = record.diagnostics
    if found is None:
        return set()
    masked = {"suspect: gradient masking"} if found.masking and found.masking.verdict == "suspect" else set()
    return masked | {plain(f"contract: {finding.code}") for finding in found.findings}


def selection(record: Record) -> set[str]:
    """Return which weights the scores are of, where they are not the last ones."""
    chosen = record.selection
    if chosen is None or chosen.policy == "last":
        return set()
    on = f" on val {chosen.on}" if chosen.on and chosen.policy == "best" else ""
    return {plain(f"{chosen.policy}{on}")}
