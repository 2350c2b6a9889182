import math

import pytest

from fatbench.errors import UsageError
from fatbench.report.regression import check, nothing_compared
from fatbench.report.run import Run
from fatbench.report.thresholds import Threshold, parse_threshold

from .records import MACHINE, external, measured, record, score

TRADES = {"method": "trades", "seconds": 9.0}


def checks(new, old, *limits):
    return check(list(map(Run, new)), list(map(Run, old)), [parse_threshold(one) for one in limits])


def outcomes(new, old, *limits):
    return [one.outcome for one in checks(new, old, *limits)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("train_seconds:+10%", Threshold("train_seconds", 10.0, "%")),
        ("autoattack:-1.0pp", Threshold("autoattack", -1.0, "pp")),
        (" pgd-50-10 : - 0.5 % ", Threshold("pgd-50-10", -0.5, "%")),
        ("train_seconds:+0.25s", Threshold("train_seconds", 0.25, "s")),
        ("clean:-0pp", Threshold("clean", -0.0, "pp")),
        ("AutoAttack:\N{MINUS SIGN}1pp", Threshold("autoattack", -1.0, "pp")),
    ],
)
def test_a_limit_is_read(text, expected):
    assert parse_threshold(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        *("", "autoattack", "autoattack:1pp", "autoattack:-1", "autoattack:-1.pp", "autoattack:--1pp", "a:-1e3pp"),
        *("train_seconds:+10", "train_seconds:+10m", "autoattack:-1pp;", "autoattack:-٣pp", "x" * 1000, "\x1b[31m:+1%"),
    ],
)
def test_what_is_no_limit_is_told_the_grammar(text):
    with pytest.raises(UsageError, match=r"--fail-if takes train_seconds:\+NUMBER or .* as in train_seconds:\+10% or"):
        parse_threshold(text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("robustness:-1pp", "no evaluation 'robustness'.*; or train_seconds"),
        ("train_seconds:+1pp", "train_seconds has no unit 'pp'"),
        ("autoattack:-1s", "autoattack has no unit 's'"),
        ("train_seconds:-10%", r"gets worse by rising; write train_seconds:\+10%"),
        ("autoattack:+1.0pp", "gets worse by falling; write autoattack:-1.0pp"),
        ("autoattack:-500pp", "an accuracy has 100 points"),
    ],
)
def test_a_limit_that_cannot_be_names_what_is_wrong(text, message):
    with pytest.raises(UsageError, match=message):
        parse_threshold(text)


@pytest.mark.parametrize(
    ("text", "before", "after", "broken"),
    [
        ("train_seconds:+10%", 10.0, 11.0, False),  # 11.0 / 10.0 - 1 is 0.10000000000000009
        ("train_seconds:+10%", 10.0, 11.01, True),
        ("train_seconds:+10%", 10.0, 1.0, False),
        ("train_seconds:+0.5s", 3.0, 3.5, False),
        ("train_seconds:+0.5s", 3.0, 3.6, True),
        ("autoattack:-1.0pp", 0.5, 0.49, False),
        ("autoattack:-1.0pp", 0.5, 0.485, True),
        ("autoattack:-1.0pp", 0.5, 0.9, False),
        ("autoattack:-10%", 0.5, 0.44, True),
        ("autoattack:-10%", 0.5, 0.46, False),
        ("clean:-0pp", 0.9, 0.9, False),
        ("clean:-0pp", 0.9, 0.899, True),
        ("train_seconds:+10%", 0.0, 0.0, False),
        ("train_seconds:+10%", 0.0, 1.0, True),
    ],
)
def test_a_limit_is_broken_in_its_direction_only(text, before, after, broken):
    limit = parse_threshold(text)
    assert limit.broken(limit.change(before, after)) == broken


def test_means_over_seeds_are_compared():
    old = [record(autoattack=100), record(autoattack=110, seed=1)]
    new = [record(autoattack=95), record(autoattack=105, seed=1), record(autoattack=97, seed=2)]
    [one] = checks(new, old, "autoattack:-2pp")
    assert (one.outcome, one.baseline, one.new) == ("FAIL", pytest.approx(0.525), pytest.approx(0.495))
    assert one.change == pytest.approx(-3.0)
    assert str(one) == (
        "FAIL    AutoAttack of fgsm-rs on small-cnn, digits, linf eps 51/255, 15 epochs:"
        " 52.5% -> 49.5% (n=200), -3pp (limit -2pp)"
    )


def test_a_time_is_told_in_seconds():
    [one] = checks([record(seconds=3.2)], [record(seconds=3.0)], "train_seconds:+10%")
    assert str(one) == (
        "ok      training time of fgsm-rs on small-cnn, digits, linf eps 51/255, 15 epochs:"
        " 3.00 s -> 3.20 s, +6.67% (limit +10%)"
    )


def test_changed_code_is_what_a_baseline_is_for():
    old = [record(autoattack=100, source="a" * 64)]
    assert outcomes([record(autoattack=90, source="b" * 64)], old, "autoattack:-1pp") == ["FAIL"]


def test_what_else_is_evaluated_does_not_matter():
    old = record(evaluations={"clean": None, "autoattack": 200})
    new = record(evaluations={"clean": None, "autoattack": 200, "pgd-20": None})
    assert outcomes([new], [old], "autoattack:-1pp", "train_seconds:+10%") == ["ok", "ok"]
    fewer = record(evaluations={"clean": None, "autoattack": 100})
    assert outcomes([fewer], [old], "autoattack:-1pp", "train_seconds:+10%") == ["skipped", "ok"]


@pytest.mark.parametrize(
    ("other", "difference"),
    [
        ({"machine": MACHINE.model_copy(update={"device": "another CPU"})}, "device"),
        ({"eps": "8/255"}, "eps"),
        ({"epochs": 30}, "budget"),
        ({"fields": {"protocol": 2}}, "protocol"),
        ({"machine": MACHINE.model_copy(update={"device": "x", "cpu_threads": 9})}, "device, threads"),
    ],
)
def test_what_does_not_compare_is_not_compared(other, difference):
    found = checks([record()], [record(**other)], "train_seconds:+10%")
    why = f"in the baseline with another {difference}"
    assert [(one.outcome, one.why) for one in found] == [("skipped", why)]
    assert nothing_compared(found) == f"nothing to compare with the baseline (train_seconds: {why})"


def test_another_configuration_has_no_counterpart():
    for other, why in (
        ({"lr": 0.2}, "in the baseline with another lr"),
        ({"hyper": {"alpha": 2.0}, "eps": "8/255"}, "in the baseline with another eps, alpha"),
        ({"method": "trades", "hyper": {}}, "the baseline has no such row"),
        ({"lr": 0.2, "momentum": 0.8, "weight_decay": 0.0, "pad": 2, "epochs": 3}, "the baseline has no such row"),
    ):
        found = checks([record(**other)], [record()], "train_seconds:+10%")
        assert [(one.outcome, one.why) for one in found] == [("skipped", why)]


PGD, ALL, FEW = {"pgd-20": None}, {"autoattack": None}, {"autoattack": 100}


@pytest.mark.parametrize(
    ("new", "old", "limit", "why"),
    [
        ({}, PGD, "pgd-20:-1pp", "evaluated in the baseline only"),
        (PGD, {}, "pgd-20:-1pp", "evaluated now only"),
        (PGD, PGD, "autoattack:-1pp", "not measured on either side"),
        (FEW, {"autoattack": 200}, "autoattack:-1pp", "in the baseline on n=200, now on n=100"),
        (ALL, FEW, "autoattack:-1pp", "in the baseline on n=100, now on n=all"),
    ],
)
def test_what_one_side_did_not_evaluate_is_said_of_that_side(new, old, limit, why):
    def of(evaluations):
        scores = {"scores": {name: score(50, 100) for name in ("clean", *evaluations)}}
        return record(evaluations={"clean": None} | evaluations, fields=scores)

    found = checks([of(new)], [of(old)], limit)
    assert [(one.outcome, one.why) for one in found] == [("skipped", why)]
    assert why in nothing_compared(found)


def test_what_else_autoattack_was_made_with_does_not_matter_to_other_gates():
    both = record(evaluations={"clean": None, "autoattack": 200}, eval_engine="fast")
    clean = record(evaluations={"clean": None})
    assert outcomes([both], [clean], "clean:-1pp") == outcomes([clean], [both], "clean:-1pp") == ["ok"]
    exact = record(evaluations={"clean": None, "autoattack": 200})
    [one] = checks([both], [exact], "autoattack:-1pp")
    assert (one.outcome, one.why) == ("skipped", "in the baseline with another eval_engine")


def test_a_row_that_is_there_but_was_not_evaluated_is_not_called_missing():
    pgd = {"clean": None, "pgd-20": None}
    old = [record(evaluations=pgd), record(**TRADES, evaluations=pgd)]
    new = [record(evaluations=pgd), record(**TRADES, evaluations={"clean": None})]
    found = checks(new, old, "pgd-20:-1pp")
    assert [(one.outcome, one.why) for one in found] == [
        ("ok", ""),
        ("skipped", "evaluated in the baseline only"),
        ("FAIL", "evaluated in the baseline only"),
    ]


def test_a_row_that_is_gone_is_no_statement_on_what_it_was_evaluated_on():
    clean = {"scores": {"clean": score(340)}}
    found = checks([record(fields=clean)], [record(fields=clean), record(**TRADES, fields=clean)], "autoattack:-1pp")
    assert [(one.outcome, one.why) for one in found] == [
        ("skipped", "not measured on either side"),
        ("FAIL", "the baseline has this row, the new results do not"),
    ]


def test_a_row_without_a_baseline_is_skipped_among_others():
    found = checks([record(), record(**TRADES)], [record()], "autoattack:-1pp")
    assert [(one.outcome, one.why) for one in found] == [("ok", ""), ("skipped", "the baseline has no such row")]
    assert nothing_compared(found) == ""


def test_a_row_that_is_gone_is_a_failure():
    found = checks([record()], [record(), record(**TRADES)], "autoattack:-1pp")
    assert [one.outcome for one in found] == ["ok", "FAIL"]
    assert found[1].row.startswith("trades on small-cnn")
    assert found[1].why == "the baseline has this row, the new results do not"


@pytest.mark.parametrize("status", ["failed", "diverged", "interrupted", "running"])
def test_a_row_that_no_longer_finishes_is_a_failure(status):
    new = [record(status=status, machine=None, data=None, seed=1)]
    [one] = checks(new, [record()], "train_seconds:+10%")
    assert (one.outcome, one.why) == ("FAIL", status)


def test_seeds_that_no_longer_finish_are_not_averaged_away():
    old = [record(), record(seed=1)]
    [one] = checks([record(), record(seed=1, status="diverged")], old, "autoattack:-1pp")
    lost = "seed 1 of the baseline is missing or invalid; 1 of 2 seeds valid, 1 diverged"
    assert (one.outcome, one.why) == ("FAIL", lost)
    unstable = [record(), record(seed=1, status="diverged")]
    assert outcomes(unstable, unstable, "autoattack:-1pp") == ["ok"]


@pytest.mark.parametrize("limit", ["autoattack:-1pp", "train_seconds:+10%"])
def test_seeds_of_the_baseline_that_are_absent_now_are_a_failure(limit):
    old = [record(seed=seed) for seed in (0, 1, 2)]
    [one] = checks([record(seed=1)], old, limit)
    assert (one.outcome, one.why) == ("FAIL", "seeds 0, 2 of the baseline are missing or invalid")
    [one] = checks([record(seed=seed) for seed in (5, 0, 1)], old, limit)  # as many, but others
    assert (one.outcome, one.why) == ("FAIL", "seed 2 of the baseline is missing or invalid")
    assert outcomes([*old, record(seed=3)], old, limit) == ["ok"]
    assert outcomes(old[:2], [*old[:2], record(seed=2, status="diverged")], limit) == ["ok"]  # it was no seed to lose


def test_a_seed_without_the_score_that_it_had_is_lost():
    clean = {"scores": {"clean": score(340)}}
    found = checks(
        [record(), record(seed=1, fields=clean)], [record(), record(seed=1)], "autoattack:-1pp", "clean:-1pp"
    )
    assert [(one.outcome, one.why) for one in found] == [
        ("FAIL", "seed 1 of the baseline is missing or invalid"),
        ("ok", ""),
    ]


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ([200], [200], "50.0% -> 50.0% (n=200)"),
        ([200], [400], "50.0% (n=200) -> 50.0% (n=400)"),
        ([200, 400], [400, 400], "50.0% (n=200..400) -> 50.0% (n=400)"),
        ([200, 400], [400, 200], "50.0% -> 50.0% (n=200..400)"),
    ],
)
def test_an_accuracy_says_on_how_many_images(old, new, told):
    rows = [
        [record(seed=k, fields={"scores": {"autoattack": score(n // 2, n)}}) for k, n in enumerate(one)]
        for one in (new, old)
    ]
    [one] = checks(*rows, "autoattack:-1pp")
    assert f": {told}, +0pp" in str(one)
    assert (one.baseline_images, one.new_images) == ((min(old), max(old)), (min(new), max(new)))


def test_scores_of_diverged_runs_are_no_baseline():
    fields = {"scores": {"autoattack": score(100, 200)}}
    [one] = checks([record()], [record(status="diverged", fields=fields)], "autoattack:-1pp")
    assert (one.outcome, one.why) == ("skipped", "no valid run in the baseline: diverged")


def test_a_metric_that_the_baseline_lacks_is_skipped_and_one_that_is_lost_fails():
    clean = {"scores": {"clean": score(340)}}
    assert outcomes([record()], [record(fields=clean)], "autoattack:-1pp", "clean:-1pp") == ["skipped", "ok"]
    [one] = checks([record(fields=clean)], [record()], "autoattack:-1pp")
    assert (one.outcome, one.why) == ("FAIL", "not measured now")


def test_another_attack_under_the_same_name_is_not_compared():
    custom = {"scores": {"autoattack": score(9, 200, attack={"version": "custom(C=3)"})}}
    assert outcomes([record(fields=custom)], [record()], "autoattack:-1pp") == ["skipped"]


def test_a_model_trained_elsewhere_has_no_training_time():
    assert outcomes([external()], [external()], "train_seconds:+10%", "autoattack:-1pp") == ["skipped", "ok"]


def test_a_noisy_time_is_called_so():
    [one] = checks([record(fields=measured(noisy=True))], [record()], "train_seconds:+10%")
    assert (one.outcome, one.why) == ("ok", "this run was noisy")


@pytest.mark.parametrize(
    ("new", "old", "expected"),
    [
        (True, False, ("inconclusive", "this run was noisy")),
        (False, True, ("inconclusive", "the baseline was noisy")),
        (True, True, ("inconclusive", "the baseline and this run were noisy")),
        (False, False, ("FAIL", "")),
    ],
)
def test_a_noisy_time_beyond_its_limit_is_inconclusive(new, old, expected):
    runs = [record(seconds=s, fields=measured(noisy=noisy)) for s, noisy in ((4.0, new), (3.0, old))]
    [one] = checks(runs[:1], runs[1:], "train_seconds:+10%")
    assert (one.outcome, one.why) == expected
    lost = checks(runs[:1], [runs[1], record(seed=1)], "train_seconds:+10%")
    assert [one.outcome for one in lost] == ["FAIL"]  # of a missing seed no noise is the reason
    assert outcomes(runs[:1], runs[1:], "autoattack:-1pp") == ["ok"]


def test_nothing_is_compared_with_nothing():
    assert nothing_compared(checks([record()], [], "clean:-1pp")).endswith("(clean: the baseline has no such row)")
    assert nothing_compared([]) == "nothing to compare with the baseline (it is empty)"


def test_two_versions_of_the_code_in_one_baseline_are_refused():
    old = [record(source="a" * 64), record(source="b" * 64)]
    with pytest.raises(
        UsageError, match="2 versions of fgsm-rs on small-cnn, digits, linf eps 51/255, 15 epochs in one set of files"
    ):
        checks([record()], old, "clean:-1pp")


def test_the_newest_record_of_a_seed_counts():
    again = record(autoattack=10, fields={"created": "2020-01-01T00:00:00Z"})
    assert outcomes([record(), again], [record()], "autoattack:-1pp") == ["ok"]


def test_a_change_out_of_nothing_is_infinite_and_written_as_none():
    [one] = checks([record(seconds=1.0)], [record(seconds=0.0)], "train_seconds:+10%")
    assert (one.outcome, one.change) == ("FAIL", None)
    assert parse_threshold("train_seconds:+1%").change(0.0, 1.0) == math.inf
