"""What a run is asked for: its eps, budget, evaluations and name."""

import math
import time
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from fatbench.config.parsing import PGD, parse_eps, parse_evaluation, parse_seconds
from fatbench.config.spec import FIELDS, build_spec, short_name
from fatbench.errors import UsageError
from fatbench.record import Record
from tests.report.records import SPEC, spec


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("8/255", "8/255"),
        (" 8 / 255 ", "8/255"),
        ("16/510", "8/255"),
        (0.2, "51/255"),
        ("1/5", "51/255"),
        ("1/3", "85/255"),
        ("0.031", "0.031"),
        (0.031, "0.031"),
        (".5", "0.5"),
        (1, "1.0"),
        ("510/255", "2.0"),
        ("0.5/255", "1/510"),
        ("1e-3", "0.001"),
    ],
)
def test_eps_has_one_spelling(text, expected):
    assert parse_eps(text) == expected


@given(st.fractions(min_value=Fraction(1, 10**4), max_value=1, max_denominator=10**6))
def test_eps_is_exact(value):
    written = parse_eps(f"{value.numerator}/{value.denominator}")
    assert Fraction(written) == value
    assert parse_eps(written) == written


@pytest.mark.parametrize("text", [0, -1, "-8/255", math.nan, math.inf, "nan", "inf", "abc", "", "8/", "/255", "1/0"])
def test_eps_is_a_positive_number(text):
    with pytest.raises(ValueError, match="eps is"):
        parse_eps(text)


@pytest.mark.parametrize("text", ["8/255/2", "1_0", "0x10", "1,5", "1e", "5e7", "1e7", None, True, [1], {}])
def test_eps_is_nothing_else(text):
    with pytest.raises(ValueError, match="eps is"):
        parse_eps(text)


@pytest.mark.parametrize("text", ["1e999999999", "1e-999999999", "9" * 10**6, "1/" + "9" * 10**6])
def test_a_huge_eps_is_refused_at_once(text):
    start = time.process_time()
    with pytest.raises(ValueError, match="eps is"):
        parse_eps(text)
    assert time.process_time() - start < 5  # it takes a millisecond; without the rule, minutes


@pytest.mark.parametrize("levels", [1, 2, 8, 16])
def test_a_float_that_is_k_of_255_says_so(levels):
    assert parse_eps(levels / 255) == f"{levels}/255"


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90s", 90), ("10m", 600), ("1h", 3600), ("1.5h", 5400), ("0.5m", 30), ("45", 45), (" 2m ", 120)],
)
def test_seconds(text, seconds):
    assert parse_seconds(text) == seconds


@pytest.mark.parametrize(
    "text", ["", "0", "0s", "-1m", "m", "1d", "1m30s", "1e3", "nan", "inf", "1.", ".5h", "1 m", "1,5h"]
)
def test_what_is_no_duration(text):
    with pytest.raises(ValueError, match="a time budget looks like 90s, 10m or 1h"):
        parse_seconds(text)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("clean", "clean"),
        ("autoattack", "autoattack"),
        ("pgd-20", PGD(steps=20)),
        ("pgd-50-10", PGD(steps=50, restarts=10)),
    ],
)
def test_evaluations(name, expected):
    assert parse_evaluation(name) == expected


@pytest.mark.parametrize(
    "name", ["", "pgd", "pgd-", "pgd-0", "pgd-20-0", "pgd--1", "pgd-20-", "PGD-20", "pgd-999999", "aa"]
)
def test_no_such_evaluation(name):
    with pytest.raises(ValueError, match=f"no evaluation '{name}'"):
        parse_evaluation(name)


# The digest: ids must stand from release to release

OTHERS = {
    "method": "trades",
    "hyper": {"alpha": 1.0},
    "dataset": "cifar10",
    "model": "resnet18",
    "norm": "l2",
    "eps": "8/255",
    "seed": 1,
    "epochs": 16,
    "batch_size": 64,
    "lr": 0.2,
    "schedule": "cosine",
    "momentum": 0.8,
    "weight_decay": 0.0,
    "pad": 1,
    "flip": True,
    "limit_train": 500,
    "device": "cuda",
    "precision": "bf16",
    "threads": None,
    "evaluations": {"clean": 100},
    "eval_batch_size": 100,
    "method_source": "0",
    "model_source": "0",
    "engine": "fast",
    "without": ("fold",),
    "compile": True,
    "target": "pgd-10>=0.45",
    "eval_engine": "fast",
    "eval_precision": {"clean": 2.0},
    "on_overfitting": "stop",
    "select": "best",
    "select_on": "pgd-20",
    "label_smoothing": 0.6,
    "ema": 0.999,
    "swa": 0.5,
    "awp": 0.01,
    "checkpoint": "0",
    "checkpoint_key": "model_ema",
    "normalize": ((0.5,), (0.25,)),
    "milestones": ("100/110", "105/110"),
    "peak": "2/5",
}
BESIDES = {
    "without": {"engine": "fast"},
    "compile": {"engine": "fast"},
    "milestones": {"schedule": "piecewise"},
    "peak": {"schedule": "cyclic"},
}


def test_the_id_is_what_it_was():
    assert spec().id == "digits-small-cnn-fgsm-rs-15ep-s0-a5f904ac"
    assert spec(epochs=None, train_seconds=600).id == "digits-small-cnn-fgsm-rs-10m-s0-6eb079e1"


@pytest.mark.parametrize("field", FIELDS)
def test_every_field_changes_the_digest(field):
    if field == "train_seconds":
        digests = {spec(epochs=None, train_seconds=seconds).digest for seconds in (60.0, 61.0)}
    else:
        base = BESIDES.get(field, {})
        digests = {spec(**base).digest, spec(**base, **{field: OTHERS[field]}).digest}
    assert len(digests) == 2


def test_a_default_said_aloud_changes_nothing():
    assert spec(train_seconds=None, limit_train=None).digest == spec().digest
    assert spec(milestones=[0.5, "150/200"]).digest == spec().digest


def test_spelling_and_order_change_nothing():
    swapped = dict(reversed(SPEC["evaluations"].items()))
    assert spec(eps=0.2, lr="0.1", evaluations=swapped).digest == spec().digest


# Validation


@pytest.mark.parametrize("budget", [{"epochs": None}, {"train_seconds": 60.0}])
def test_a_run_has_one_budget(budget):
    with pytest.raises(UsageError) as error:
        build_spec(**(SPEC | budget))
    assert str(error.value) == "a run has one budget: --epochs or --time-budget"


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"eps": "8"}, "eps 8 is beyond the pixels' range [0, 1]; did you mean 8/255?"),
        ({"eps": "1/0"}, "eps is a number or a fraction such as 8/255, not '1/0'"),
        ({"evaluations": {"pgd": None}}, "no evaluation 'pgd'"),
        ({"evaluations": {"clean": 0}}, "--eval must be more than 0, not 0"),
        ({"batch_size": 1}, "--batch-size must be more than 1, not 1"),
        ({"lr": math.nan}, "--lr must be finite, not nan"),
        ({"train_seconds": math.inf, "epochs": None}, "--time-budget must be finite, not inf"),
        ({"epochs": 0}, "--epochs must be at least 1, not 0"),
        ({"seed": -1}, "--seeds must be at least 0, not -1"),
        ({"seed": 2**32}, "--seeds must be at most 4294967295"),
        ({"device": "tpu"}, "device: "),
        ({"schedule": "step"}, "--schedule must be one of 'piecewise', "),
        ({"milestones": [0.5]}, "--milestones are where --schedule piecewise drops, and cyclic has none"),
        ({"schedule": "piecewise", "milestones": [0.7, 0.5]}, "milestones come one after another, as 0.5,0.75, not 7/"),
        ({"schedule": "piecewise", "milestones": []}, "milestones come one after another"),
        ({"schedule": "piecewise", "milestones": [100]}, "a milestone or peak is a fraction of the training such as"),
        ({"schedule": "piecewise", "peak": 0.4}, "--peak is for --schedule cyclic or onecycle: piecewise has none"),
        ({"peak": "2/0"}, "a milestone or peak is a fraction of the training such as 0.75 or 100/110, not '2/0'"),
        ({"peak": "9" * 10**6}, "a milestone or peak is a fraction"),
        ({"unheard_of": 1}, "unheard_of: "),
    ],
)
def test_a_field_that_cannot_be_right_is_named(fields, message):
    with pytest.raises(UsageError) as error:
        build_spec(**(SPEC | fields))
    assert message in str(error.value)
    assert str(error.value).isprintable()


def test_an_l2_eps_may_exceed_one():
    assert spec(norm="l2", eps="1.5").epsilon == 1.5


@pytest.mark.parametrize(
    ("budget", "text"),
    [
        ({"epochs": 1}, "1 epoch"),
        ({"epochs": 15}, "15 epochs"),
        ({"epochs": None, "train_seconds": 90.0}, "90s"),
        ({"epochs": None, "train_seconds": 180.0}, "3m"),
        ({"epochs": None, "train_seconds": 7200.0}, "2h"),
        ({"epochs": None, "train_seconds": 0.5}, "0.5s"),
    ],
)
def test_the_budget_reads_as_people_write_it(budget, text):
    assert spec(**budget).budget == text


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("bs-trades", "bs-trades"),
        ("path/to/my_idea.py", "my-idea"),
        ("my_idea.py", "my-idea"),
        ("nets/wide.py:make", "wide-make"),
        ("/data/images", "images"),
        ("images.npz", "images"),
        ("a b\n/c d.npz", "c-d"),
        ("../..", "unnamed"),
        ("/", "unnamed"),
        ("\x1b[31m", "31m"),
        ("x" * 300, "x" * 48),
        ("a - b.npz", "a---b"),  # as ever: ids of results must not change
        ("数据.npz", "数据"),
        ("мои данные", "мои-данные"),
        ("cafe\N{COMBINING ACUTE ACCENT}.npz", "caf\N{LATIN SMALL LETTER E WITH ACUTE}"),  # as macOS writes it
        ("हिन्दी", "हिन्दी"),
        ("بيانات", "بيانات"),
        ("😀set.npz", "😀set"),
        ("a\N{RIGHT-TO-LEFT OVERRIDE}b", "a-b"),
        ("a\N{ZERO WIDTH SPACE}b", "a-b"),
        ("a\udcffb", "a-b"),  # a byte that is no text
        ("數" * 30, "數" * 16),  # 48 bytes: names of files are counted in them
    ],
)
def test_short_names_are_safe_in_a_file_name(name, expected):
    assert short_name(name) == expected


@given(st.text())
def test_any_name_makes_a_safe_file_name(name):
    short = short_name(name)
    assert 0 < len(short.encode()) <= 48
    assert short[0] not in "-."
    assert short.isprintable()
    assert not set(short) & set('/\\:*?"<>| ')
    record = {"id": short, "schema": 4, "created": "2026-01-01T00:00:00Z"}
    with pytest.raises(ValidationError) as error:  # its other fields are missing
        Record.model_validate(record)
    assert "id" not in {one["loc"][0] for one in error.value.errors()}
