"""A record stays small enough to be kept, mailed and read, however long the run was."""

import json
import random
from pathlib import Path

from fatbench.record import Record, load, save
from fatbench.record.parts import Probe

from .report.records import event, record, score

EVALUATIONS = ("clean", "pgd-10", "fgsm", "pgd-50-10")  # what overfitting, a target and a selection may ask for
LARGEST = 200 * 2**10


def long_run(epochs: int) -> Record:
    """Return a record with as many probes as epochs, of numbers with all their digits, and a method of usual length."""
    draw = random.Random(0)

    def probe(epoch: int) -> Probe:
        scores = {name: score(draw.randrange(1000), 1000) for name in EVALUATIONS}
        rest = {"lr": draw.random() / 10, "loss": draw.random() * 3, "scores": scores}
        return Probe(epoch=epoch, step=390 * epoch, train_seconds=13 * epoch + draw.random(), **rest)

    attack = {"version": "standard", "norm": "linf", "eps": 8 / 255, "seed": 0, "batch_size": 250}
    parts = {name: draw.random() * 1000 for name in ("apgd-ce", "apgd-t", "fab-t", "square")}
    autoattack = score(
        300, 1000, seconds=3000.0, attack=attack, part_seconds=parts, survivors=dict.fromkeys(parts, 300)
    )
    events = [event("catastrophic-overfitting", detail="FGSM 0.81, PGD 0.02: " + "x" * 80) for _ in range(20)]
    fields = {"history": [probe(k + 1) for k in range(epochs)], "scores": {"autoattack": autoattack}, "events": events}
    whole = record(fields=fields, epochs=epochs)
    return whole.model_copy(update={"method": whole.method.model_copy(update={"source": "a line of code\n" * 200})})


def test_two_hundred_epochs_stay_under_200_kib(tmp_path: Path) -> None:
    long = long_run(200)
    path = save(long, tmp_path)
    assert path.stat().st_size < LARGEST / 2
    assert load(path) == long


def test_a_probe_is_a_line_of_what_was_measured(tmp_path: Path) -> None:
    lines = save(long_run(3), tmp_path).read_text().splitlines()
    probes = [json.loads(line.rstrip(",")) for line in lines if line.startswith('  {"epoch"')]
    assert [probe["epoch"] for probe in probes] == [1, 2, 3]
    assert set(probes[0]["scores"]["clean"]) == {"correct", "total"}


def test_a_run_without_a_probe_is_json_too(tmp_path: Path) -> None:
    assert json.loads(save(record(), tmp_path).read_text())["history"] == []
