"""One result in a line: what `fatbench run` says of each of several runs."""

from fatbench.record import Record
from fatbench.report.formats import duration, evaluation_title, percent
from fatbench.report.validity import reasons_to_distrust


def line(record: Record) -> str:
    """Return training time, scores and what speaks against them: "9.80 s  clean 94.6%  AutoAttack 55.3%"."""
    status = [] if record.status == "finished" else [record.status]
    scores = [f"{evaluation_title(name)} {percent(score.accuracy)}%" for name, score in record.scores.items()]
    reasons = {one.label: None for one in reasons_to_distrust(record) if one.kind != "status"}
    return "  ".join([*status, duration(record.timing.train), *scores, *[", ".join(reasons)] * bool(reasons)])
