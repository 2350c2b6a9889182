"""frame: records -> a DataFrame of raw numbers, for one's own analysis."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from fatbench.record import Record
from fatbench.report.validity import guessing

if TYPE_CHECKING:
    import pandas as pd


_NESTED = ("hyper", "evaluations", "eval_precision", "train_seconds")  # spread over columns, or under another name


def frame(records: Iterable[Record]) -> pd.DataFrame:
    """Return one line per record, in their order, with flat snake_case columns; what a record lacks is missing.

    Among them: id, status, method, model, dataset, seed, eps (text) and epsilon, `hyper_<name>`, `<phase>_seconds`
    (train_seconds is the time that methods are compared by), `<evaluation>_correct`, `_total` and `_seconds`
    (pgd_20_correct), passes as `<direction>_samples`, `<memory>_bytes`, the fields of throughput and compute under
    their own names (images_per_second, noisy, mfu), energy_joules, the machine, what was scored (selection,
    selection_epoch, eval_engine, `<evaluation>_<part>_seconds`) and whether it can be relied on (masking, findings).
    """
    import pandas as pd  # half a second that `fatbench --help` need not pay

    return pd.DataFrame([_line(record) for record in records])


def _line(record: Record) -> dict[str, Any]:
    spec = record.spec
    line: dict[str, Any] = {"id": record.id, "status": record.status, "protocol": record.protocol}
    line |= {"created": record.created, "method_sha256": record.method.sha256}
    line |= {name: value for name, value in spec.flat().items() if name not in _NESTED}
    line |= {"epsilon": spec.epsilon, "budget": spec.budget, "budget_seconds": spec.flat().get("train_seconds")}
    line |= {_snake(f"hyper_{name}"): value for name, value in (spec.train.hyper if spec.train else {}).items()}
    line |= {_snake(f"eval_precision_{name}"): value for name, value in spec.eval.precision.items()}
    line |= _data(record) | _effort(record) | _trust(record) | _machine(record)
    return _scores(record) | line  # a score may be called anything, "train" included


def _data(record: Record) -> dict[str, Any]:
    data = record.data
    if data is None:
        return {}
    counts = {"train_images": data.train, "validation_images": data.validation, "test_images": data.test}
    return {"data_sha256": data.sha256, "subset": data.subset, "classes": data.classes, **counts}


def _effort(record: Record) -> dict[str, Any]:
    times = {f"{phase}_seconds": value for phase, value in record.timing}
    passes = {f"{direction}_samples": value for direction, value in record.passes}
    memory = {_snake(f"{name}_bytes"): value for name, value in record.memory.items()}
    counts = {"parameters": record.parameters, "steps": record.steps, "data_passes": record.data_passes}
    events = ",".join(sorted({event.kind for event in record.events}))
    ends = {"stopped_by": record.budget.stopped_by, "events": events}
    pace = dict(record.throughput or {}) | dict(record.compute or {}) | {"energy_joules": record.energy_joules}
    return ends | counts | times | passes | memory | pace


def _trust(record: Record) -> dict[str, Any]:
    found, chosen, reason = record.diagnostics, record.selection, guessing(record)
    findings = {finding.code for finding in found.findings} if found else set()
    findings |= {reason.label} if reason else set()
    return {
        "masking": found.masking.verdict if found and found.masking else None,
        "findings": ",".join(sorted(findings)) if found or findings else None,
        "selection": chosen.policy if chosen else None,
        "selection_epoch": chosen.epoch if chosen else None,
    }


def _scores(record: Record) -> dict[str, Any]:
    line: dict[str, Any] = {}
    for name, score in record.scores.items():
        line |= {_snake(f"{name}_{key}"): getattr(score, key) for key in ("correct", "total", "seconds")}
        line |= {_snake(f"{name}_{part}_seconds"): value for part, value in score.part_seconds.items()}
        line[_snake(f"{name}_version")] = score.attack.get("version")
    return line


def _machine(record: Record) -> dict[str, Any]:
    machine = record.environment
    if machine is None:
        return {}
    renamed = {"device": "machine", "fatbench": "fatbench_version", "torch": "torch_version"}
    return {renamed.get(name, name): value for name, value in machine}


def _snake(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_")
