"""Valid records for tests, said in few words."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fatbench.config.spec import RunSpec
from fatbench.record import Record, save
from fatbench.record.parts import (
    Budget,
    DataInfo,
    Diagnostics,
    Environment,
    Event,
    Finding,
    Masking,
    MethodInfo,
    Probe,
    Score,
    Selection,
    Timing,
)
from fatbench.record.samples import NOT_EVALUATED, STANDING, Outcome, Samples, save_samples
from fatbench.report.run import Run

SPEC: dict[str, Any] = {
    "method": "fgsm-rs",
    "hyper": {"alpha": 1.25},
    "dataset": "digits",
    "model": "small-cnn",
    "norm": "linf",
    "eps": "51/255",
    "seed": 0,
    "epochs": 15,
    "batch_size": 128,
    "lr": 0.1,
    "schedule": "cyclic",
    "momentum": 0.9,
    "weight_decay": 5e-4,
    "pad": 0,
    "flip": False,
    "device": "cpu",
    "precision": "fp32",
    "threads": 1,
    "evaluations": {"clean": None, "pgd-20": None, "autoattack": 200},
}
MACHINE = Environment(
    device="AMD EPYC 9R14",
    cpu="AMD EPYC 9R14",
    cpu_threads=1,
    platform="Linux-6.1",
    python="3.11.7",
    torch="2.14.0",
    cuda=None,
    cudnn=None,
    driver=None,
    tf32=False,
    fatbench="0.1.0",
    commit="0123456789abcdef",
    dirty=True,
)
DATA = DataInfo(
    name="digits", train=1257, validation=180, test=360, shape=(1, 8, 8), classes=10, subset=False, sha256="d" * 64
)


def spec(**fields: Any) -> RunSpec:
    return RunSpec(**(SPEC | fields))


def score(correct: int, total: int = 360, **fields: Any) -> Score:
    return Score(correct=correct, total=total, **fields)


def probe(epoch: int, clean: int, pgd: int) -> Probe:
    scores = {"clean": score(clean, 180), "pgd-10": score(pgd, 180)}
    return Probe(epoch=epoch, step=10 * epoch, train_seconds=0.5 * epoch, lr=0.1, loss=1.0, scores=scores)


def record(
    clean: int = 340,
    pgd: int = 200,
    autoattack: int = 100,
    *,
    seconds: float = 3.0,
    status: str = "finished",
    source: str = "s" * 64,
    machine: Environment | None = MACHINE,
    data: DataInfo | None = DATA,
    fields: dict[str, Any] | None = None,
    **of_spec: Any,
) -> Record:
    """Return a run with these scores; `of_spec` are fields of its spec, `fields` of the record."""
    asked = spec(**of_spec)
    scores = {"clean": score(clean), "pgd-20": score(pgd), "autoattack": score(autoattack, 200)}
    content: dict[str, Any] = {
        "id": asked.id,
        "status": status,
        "created": "2026-01-02T03:04:05Z",
        "spec": asked,
        "method": MethodInfo(
            name=asked.method, hyper=asked.flat().get("hyper", {}), sha256=source, source="def method(): ..."
        ),
        "budget": Budget(epochs=asked.flat().get("epochs"), train_seconds=asked.flat().get("train_seconds")),
        "data": data,
        "timing": Timing(train=seconds),
        "scores": scores if status == "finished" else {},
        "environment": machine,
    }
    return Record(**(content | (fields or {})))


def event(kind: str, **fields: Any) -> Event:
    return Event(**({"kind": kind, "step": 40, "epoch": 4, "train_seconds": 1.5} | fields))


def doubtful(*codes: str, masked: bool = True) -> dict[str, Any]:
    """Return the fields of a record that was looked at and found suspect."""
    masking = Masking(verdict="suspect" if masked else "none", reasons=["PGD stops at once"] if masked else [])
    return {"diagnostics": Diagnostics(findings=[Finding(code=c, detail="mend it") for c in codes], masking=masking)}


def selected(policy: str = "best", on: str | None = "pgd-10", **fields: Any) -> dict[str, Any]:
    """Return the fields of a record of which not the last weights were scored."""
    return {
        "selection": Selection(**({"policy": policy, "on": on, "epoch": 7, "step": 70, "train_seconds": 1.4} | fields))
    }


def external(**fields: Any) -> Record:
    """Return a record of weights that were trained elsewhere."""
    of_spec = {"method": "external", "hyper": {}, "epochs": 0, "checkpoint": "c" * 64, "seconds": 0.0}
    return record(**(of_spec | fields))


def measured(noisy: bool | None = False, **fields: Any) -> dict[str, Any]:
    """Return the fields of a record whose speed was measured."""
    spread = None if noisy is None else 0.31 if noisy else 0.02
    pace = {"images_per_second": 6213.4, "blocks": 12, "spread": spread, "noisy": noisy}
    compute = {"flops": 8.1e10, "flops_per_second": 2.6e10, "peak_flops_per_second": 7.5e10, "mfu": 0.3467}
    return {"steps": 150, "throughput": pace, "compute": compute, "energy_joules": 1234.5} | fields


def study() -> list[Record]:
    """Return a small study: three methods, two of them with several seeds, one in two versions, one run diverged."""
    trades = {"method": "trades", "seconds": 9.0}
    return [
        record(341, 205, 98, seed=0),
        record(338, 210, 104, seed=1, seconds=3.2),
        record(344, 199, 95, seed=2, seconds=3.1),
        record(330, 221, 121, **trades, hyper={"steps": 10, "beta": 6.0}),
        record(333, 219, 118, **trades, hyper={"steps": 10, "beta": 6.0}, seed=1),
        record(
            status="diverged",
            **trades,
            hyper={"steps": 10, "beta": 6.0},
            seed=2,
            fields={"events": [event("diverged")]},
        ),
        record(318, 225, 126, **trades, hyper={"steps": 10, "beta": 12.0}),
        record(350, 20, 0, method="standard", hyper={}, seconds=1.0, fields={"events": [event("collapse")]}),
    ]


def outcome(standing: Sequence[int | None]) -> Outcome:
    """Return an attack's outcome: 1 stood, 0 fell, None was not looked at."""
    broken_by = [NOT_EVALUATED if one is None else STANDING if one else 2 for one in standing]
    return Outcome(("clean", "pgd-20"), np.array(broken_by, dtype=np.int8))


def samples(standing: Sequence[int | None], name: str = "pgd-20", first: int = 0) -> Samples:
    """Return the outcomes of so many images, told apart by their numbers from `first` on; labels follow from these."""
    numbers = np.arange(first, first + len(standing))
    return Samples(numbers.astype(np.uint64), (numbers % 10).astype(np.int64), {name: outcome(standing)})


def run(
    folder: Path, standing: Sequence[int | None], *, name: str = "pgd-20", keep: Samples | None = None, **of: Any
) -> Run:
    """Return a run, written to `folder` with its outcomes under one evaluation beside it."""
    fields = {"scores": {name: score(sum(one or 0 for one in standing), sum(one is not None for one in standing))}}
    one = record(**(of | {"fields": fields | of.get("fields", {})}))
    place = f"{one.id}/samples.npz"
    (folder / one.id).mkdir(parents=True, exist_ok=True)
    save_samples(keep or samples(standing, name), folder / place)
    one = one.model_copy(update={"artefacts": one.artefacts or {"samples": place}})
    return Run(one, save(one, folder))


def standing(n: int, stands: int) -> list[int]:
    """Return n outcomes of which the first `stands` stood."""
    return [1] * stands + [0] * (n - stands)
