"""Records survive the disk whole, and nothing malformed passes for one."""

import json
import os
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fatbench import record as records
from fatbench.config.spec import RunSpec
from fatbench.errors import ResourceError, UsageError
from fatbench.record import Record, load, save, write_atomically
from fatbench.record.parts import (
    Budget,
    Compute,
    DataInfo,
    Diagnostics,
    EngineInfo,
    Environment,
    Event,
    Finding,
    Masking,
    MethodInfo,
    Passes,
    Probe,
    Score,
    Selection,
    TargetInfo,
    Throughput,
    Timing,
)

from .report.records import SPEC, probe, record, score

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
COUNT = st.integers(0, 2**53)
SECONDS = st.floats(0, 1e9)
AMOUNT = st.floats(0, 1e30)
NUMBER = st.floats(allow_nan=False, allow_infinity=False)
VALUE = st.booleans() | st.integers(-(2**53), 2**53) | NUMBER | TEXT
COUNTS = st.dictionaries(TEXT, COUNT, max_size=3)


def built(model, **fields):
    return st.builds(model, **fields)


def maybe(strategy):
    return st.none() | strategy


@st.composite
def scores(draw):
    total = draw(st.integers(1, 2**53))
    survivors = st.dictionaries(TEXT, st.integers(0, total), max_size=3)
    parts = {"seconds": SECONDS, "attack": st.dictionaries(TEXT, VALUE, max_size=3), "survivors": survivors}
    drawn = {name: draw(strategy) for name, strategy in parts.items()}
    return Score(correct=draw(st.integers(0, total)), total=total, warnings=draw(st.lists(TEXT, max_size=2)), **drawn)


@st.composite
def specs(draw):
    budget = draw(st.sampled_from(["epochs", "train_seconds"]))
    content = SPEC | {
        "method": draw(TEXT.filter(bool)),
        "hyper": draw(st.dictionaries(TEXT, VALUE, max_size=3)),
        "eps": f"{draw(st.integers(1, 255))}/255",
        "seed": draw(st.integers(0, 2**32 - 1)),
        "lr": draw(st.floats(1e-9, 10)),
        "limit_train": draw(maybe(st.integers(1, 10**6))),
        "threads": draw(maybe(st.integers(1, 64))),
        "epochs": None,
        "evaluations": draw(st.dictionaries(st.sampled_from(["clean", "pgd-20", "autoattack"]), maybe(st.just(100)))),
    }
    return RunSpec(**(content | {budget: draw(st.integers(1, 10**6))}))


SCORES = st.dictionaries(TEXT, scores(), max_size=2)
STOPS = maybe(st.sampled_from(["epochs", "time", "target", "diverged", "interrupted", "failed"]))
PROBES = built(Probe, epoch=COUNT, step=COUNT, train_seconds=SECONDS, lr=NUMBER, loss=maybe(NUMBER), scores=SCORES)
ANY_RECORD = built(
    Record,
    id=st.just("any"),
    status=st.sampled_from(["running", "finished", "diverged", "interrupted", "failed"]),
    protocol=st.integers(0, 1000),
    created=TEXT,
    spec=specs(),
    method=built(MethodInfo, name=TEXT, hyper=st.dictionaries(TEXT, VALUE, max_size=2), sha256=TEXT, source=TEXT),
    budget=built(Budget, epochs=maybe(st.integers(1)), train_seconds=maybe(SECONDS), stopped_by=STOPS),
    data=maybe(built(DataInfo, name=TEXT, train=COUNT, validation=COUNT, test=COUNT, classes=COUNT, sha256=TEXT)),
    parameters=COUNT,
    steps=COUNT,
    data_passes=SECONDS,
    passes=built(Passes, forward=COUNT, input_backward=COUNT, weight_backward=COUNT),
    timing=built(Timing, setup=SECONDS, train=SECONDS, probe=SECONDS, calibration=SECONDS),
    throughput=maybe(
        built(Throughput, images_per_second=AMOUNT, blocks=COUNT, spread=maybe(AMOUNT), noisy=st.none() | st.booleans())
    ),
    compute=maybe(built(Compute, flops=AMOUNT, flops_per_second=AMOUNT, peak_flops_per_second=maybe(AMOUNT))),
    energy_joules=maybe(AMOUNT),
    engine=maybe(built(EngineInfo, name=TEXT, precision=TEXT, notes=st.dictionaries(TEXT, TEXT, max_size=2))),
    target=maybe(built(TargetInfo, target=TEXT, reached=st.booleans(), train_seconds=maybe(SECONDS))),
    memory=COUNTS,
    history=st.lists(PROBES, max_size=2),
    scores=SCORES,
    events=st.lists(built(Event, kind=TEXT, step=COUNT, epoch=COUNT, train_seconds=SECONDS, detail=TEXT), max_size=2),
    diagnostics=maybe(
        built(
            Diagnostics,
            findings=st.lists(built(Finding, code=TEXT, detail=TEXT, evaluation=maybe(TEXT)), max_size=2),
            masking=maybe(
                built(Masking, verdict=st.sampled_from(["none", "suspect"]), reasons=st.lists(TEXT, max_size=2))
            ),
        )
    ),
    selection=maybe(
        built(
            Selection,
            policy=st.sampled_from(["last", "best", "restored"]),
            on=maybe(TEXT),
            epoch=COUNT,
            step=COUNT,
            train_seconds=SECONDS,
            last_scores=SCORES,
        )
    ),
    environment=maybe(built(Environment, device=TEXT, cpu=TEXT, cpu_threads=COUNT, commit=maybe(TEXT))),
    artefacts=st.dictionaries(TEXT, TEXT, max_size=2),
    error=maybe(TEXT),
)


@settings(deadline=None, max_examples=25, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(ANY_RECORD)
def test_any_record_survives_the_disk(original):
    with tempfile.TemporaryDirectory() as folder:
        assert load(save(original, Path(folder))) == original


def test_the_keys_that_others_rely_on(tmp_path):
    content = json.loads(save(record(), tmp_path).read_text())
    assert (content["schema"], content["protocol"], content["status"]) == (records.SCHEMA, 1, "finished")
    assert (content["spec"]["method"], content["spec"]["seed"], content["spec"]["dataset"]) == ("fgsm-rs", 0, "digits")
    assert content["timing"]["train"] == 3.0
    assert (content["scores"]["pgd-20"]["correct"], content["scores"]["pgd-20"]["total"]) == (200, 360)
    assert set(content["passes"]) == {"forward", "input_backward", "weight_backward"}
    assert content["environment"]["device"] == "AMD EPYC 9R14"


def test_a_field_that_an_older_fatbench_did_not_write_takes_its_default(tmp_path):
    content = json.loads(record().model_dump_json(by_alias=True))
    for name in ("events", "artefacts", "memory", "history"):
        del content[name]
    (tmp_path / "old.json").write_text(json.dumps(content))
    assert load(tmp_path / "old.json") == record()


@pytest.mark.parametrize(("schema", "absent"), [(1, ("throughput", "engine", "diagnostics")), (2, ("diagnostics",))])
def test_records_of_every_past_schema_keep_loading(tmp_path, schema, absent):
    """The fixtures were written by fatbench when that schema was its own."""
    path = Path(__file__).parent / "fixtures" / f"record-schema-{schema}.json"
    assert json.loads(path.read_text())["schema"] == schema
    old = load(path)
    assert old.is_result
    assert old.scores["autoattack"].correct > 0
    assert [getattr(old, name) for name in absent] == [None] * len(absent)
    assert json.loads(save(old, tmp_path).read_text())["schema"] == records.SCHEMA == 4


# Writing


@pytest.mark.parametrize(
    ("owner", "name"), [(os, "fsync"), (Path, "chmod"), (Path, "replace"), (tempfile, "NamedTemporaryFile")]
)
def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch, owner, name):
    path = tmp_path / "one.json"
    write_atomically(path, b"old")

    def full(*_args, **_kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(owner, name, full)
    with pytest.raises(ResourceError, match=r"one\.json: No space left on device; choose another --output"):
        write_atomically(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_write_makes_its_folder_and_replaces_what_was_there(tmp_path):
    folder = tmp_path / "deep" / "er"
    assert save(record(status="running"), folder) == save(record(), folder)
    assert [load(path).status for path in folder.iterdir()] == ["finished"]
    assert (folder / f"{record().id}.json").stat().st_mode & 0o777 == 0o644


def test_a_folder_that_cannot_be_written_is_a_resource_error(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(ResourceError, match="cannot write"):
        save(record(), tmp_path / "file")


# Reading


def changed(**fields):
    """Return a record's JSON text with some of its fields replaced; `a__b` is field b of a, `a__0` item 0."""
    content = json.loads(record(fields={"history": [probe(1, 2, 3)]}).model_dump_json(by_alias=True))
    for path, value in fields.items():
        *parents, last = path.split("__")
        inner = content
        for name in parents:
            inner = inner[int(name)] if isinstance(inner, list) else inner[name]
        inner[last] = value
    return json.dumps(content)


def complaint(path, content):
    """Return what `load` says against `content`, having checked that it is one printable line."""
    path.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8", "surrogatepass"))
    with pytest.raises(UsageError) as error:
        load(path)
    message = str(error.value)
    assert message.isprintable()
    assert len(message) < 400 + len(str(path))
    assert str(path) in message
    return message


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("", "not valid JSON"),
        (b"\xff\xfe\x00", "not valid JSON"),
        (b'{"schema": 1, "spec": "\xe9"}', "not valid JSON"),
        (changed()[:-40], "not valid JSON"),
        ("[" * 100_000, "not valid JSON"),
        ('{"schema": 1, "spec": ' + '{"a": ' * 100_000, "not valid JSON"),
        ('{"schema": 1, "spec": ' + "9" * 5000 + "}", "not valid JSON"),
        ("null", "no 'schema' and 'spec'"),
        ("[]", "no 'schema' and 'spec'"),
        ('"schema spec"', "no 'schema' and 'spec'"),
        ('{"name": "some-package", "version": "1.0"}', "no 'schema' and 'spec'"),
        ('{"schema": 1, "spec": []}', "not a valid record"),
        (changed(schema=5), "schema 5; this fatbench reads up to 4"),
        (changed(schema=0), "schema"),
        (changed(schema="1"), "schema: Input should be a valid integer"),
        (changed(schema=["x" * 1000]), "schema"),
        (changed(status="fine"), "status"),
        (changed(spec__method=""), "spec.method"),
        (changed(spec__train__batch_size="many"), "spec.train.batch_size"),
        (changed(spec__train__epochs=None), "one budget"),
        (changed(spec__train__epochs=True, spec__train__train_seconds=5.0), "one budget"),
        (changed(spec__unheard_of=1), "spec.unheard_of"),
        (changed(unheard_of=1), "unheard_of"),
        (changed(schema_version=1), "schema_version"),
        (changed(timing__train=-1.0), "timing.train"),
        (changed(timing__train="soon"), "timing.train"),
        (changed(timing__train=float("nan")), "timing.train"),
        (changed(timing__train=float("inf")), "timing.train"),
        (changed(history__0__loss=float("nan")), "history.0.loss"),
        (changed(spec__train__hyper={"beta": float("nan")}), "spec.train.hyper.beta"),
        (changed(scores__clean__correct=361), "361 correct out of 360"),
        (changed(scores__clean__correct=-1), "scores.clean.correct"),
        (changed(scores__clean__correct=0.5), "scores.clean.correct"),
        (changed(scores__clean__total=0), "scores.clean.total"),
        (changed(scores=[1]), "scores"),
        (changed(events=["diverged"]), "events.0"),
        (changed(data__shape=[1, 8]), "data.shape"),
        (changed(environment="a computer"), "environment"),
        (changed(energy_joules=-1.0), "energy_joules"),
        (changed(compute={"flops": 1.0}), "compute.flops_per_second"),
        (changed(throughput={"images_per_second": 1e31}), "throughput.images_per_second"),
        (changed(engine={"name": "fast", "precision": "bf16", "in_force": {"graph": "yes"}}), "engine.in_force.graph"),
        (changed(target={"target": "clean>=0.5"}), "target.reached"),
        (changed(budget__stopped_by="boredom"), "budget.stopped_by"),
    ],
)
def test_what_is_no_record_is_refused_in_a_line(tmp_path, content, problem):
    assert problem in complaint(tmp_path / "r.json", content)


SUBTLE = {
    "a NaN, which is no JSON": changed(data_passes=float("nan")),
    "a lone surrogate, which cannot be saved again": changed(error="\ud800"),
    "a number of images that no float can hold": changed(scores__clean__total=10**400),
    "true for the schema": changed(schema=True),
    "text for a count": changed(steps="3"),
    "true for a count": changed(steps=True),
    "fewer than no passes over the data": changed(data_passes=-1.0),
    "more survivors than images": changed(scores__clean__survivors={"apgd-ce": 361}),
    "an id that leads out of the folder": changed(id="../../elsewhere"),
    "control characters in a key": changed(**{"\x1b[31m": 1}),
    "control characters in eps": changed(spec__eps="\x1b[31m\n8/255"),
    "control characters in an evaluation": changed(spec__eval__evaluations={"\x1b[31m\n": 1}),
    "an endless eps": changed(spec__eps="9" * 100_000),
}


@pytest.mark.parametrize("content", SUBTLE.values(), ids=SUBTLE)
def test_what_only_looks_like_a_record_is_refused_in_a_line(tmp_path, content):
    complaint(tmp_path / "r.json", content)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(UsageError, match=r"cannot read .*gone\.json: No such file"):
        load(tmp_path / "gone.json")


def test_a_folder_is_no_record(tmp_path):
    with pytest.raises(UsageError, match=r"cannot read .*: it is a folder"):
        load(tmp_path)


def test_a_file_that_may_not_be_read_is_named(tmp_path, monkeypatch):
    def refused(*_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "open", refused)
    with pytest.raises(UsageError, match=r"cannot read .*one\.json: Permission denied"):
        load(tmp_path / "one.json")


# What a record says


@pytest.mark.parametrize(
    ("status", "is_result"),
    [("finished", True), ("diverged", True), ("running", False), ("interrupted", False), ("failed", False)],
)
def test_a_diverged_run_is_a_result(status, is_result):
    assert record(status=status).is_result == is_result


def test_accuracy_is_a_share():
    assert score(90, 360).accuracy == 0.25


def test_a_record_does_not_change():
    with pytest.raises(ValueError, match="frozen"):
        record().status = "running"


def test_the_protocol_is_written_even_where_it_is_the_default(tmp_path):
    assert json.loads(save(record(), tmp_path).read_text())["protocol"] == records.PROTOCOL
