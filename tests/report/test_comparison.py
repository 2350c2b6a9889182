import math
import random
import time

import pytest

from fatbench.errors import UsageError
from fatbench.report.aggregate import status
from fatbench.report.comparison import compare
from fatbench.report.render.columns import columns
from fatbench.report.render.notes import headings
from fatbench.statistics import wilson

from .records import DATA, MACHINE, doubtful, event, external, measured, record, score, selected, study

SUSPECT = "suspect: gradient masking"


def only(records, **how):
    [group] = compare(records, **how)
    return group


def labels(group):
    return [row.label for row in group.rows]


def on_gpu(index="", **fields):
    gpu = MACHINE.model_copy(update={"device": "NVIDIA H200", **fields})
    return {"machine": gpu, "device": f"cuda{index}"}


@pytest.mark.parametrize(
    "other",
    [
        {"eps": "8/255"},
        {"norm": "l2"},
        {"epochs": 30},
        {"epochs": None, "train_seconds": 60.0},
        {"limit_train": 500},
        {"dataset": "elsewhere.npz"},
        {"data": DATA.model_copy(update={"sha256": "e" * 64})},
        {"data": DATA.model_copy(update={"subset": True})},
        {"machine": MACHINE.model_copy(update={"device": "another CPU"})},
        {"machine": MACHINE.model_copy(update={"cpu_threads": 2})},
        on_gpu(),
        {"fields": {"protocol": 2}},
    ],
)
def test_what_does_not_compare_is_kept_apart(other):
    groups = compare([record(), record(**other)])
    assert [len(group.rows) for group in groups] == [1, 1]


@pytest.mark.parametrize("value", [True, False])
def test_tf32_is_part_of_the_setting_on_a_gpu_only(value):
    ours, theirs = on_gpu(tf32=False), on_gpu(tf32=value)
    assert len(compare([record(**ours), record(**theirs, seed=1)])) == 1 + value
    cpu = MACHINE.model_copy(update={"tf32": value})
    assert len(compare([record(), record(machine=cpu, seed=1)])) == 1


def test_cpu_threads_and_the_index_of_a_gpu_do_not_matter_on_gpus():
    records = [record(**on_gpu()), record(**on_gpu(":1", cpu_threads=64), seed=1)]
    assert [row.seeds for row in only(records).rows] == [(0, 1)]


def test_one_npz_file_in_two_places_is_one_dataset():
    assert len(only([record(dataset="a/x.npz"), record(dataset="b/x.npz", seed=1)]).rows) == 1


def test_seeds_are_aggregated():
    row = only([record(340, seconds=2.0), record(330, seconds=4.0, seed=1), record(320, seconds=3.0, seed=2)]).rows[0]
    assert row.seeds == (0, 1, 2)
    assert row.train_seconds.mean == pytest.approx(3.0)
    assert row.train_seconds.std == pytest.approx(1.0)
    clean = row.scores["clean"]
    assert clean.mean == pytest.approx(330 / 360)
    assert clean.std == pytest.approx(10 / 360)
    half = 4.302652729911275 * (10 / 360) / math.sqrt(3)  # t of two degrees of freedom: seeds, not images
    assert (clean.interval, clean.low) == ("t", pytest.approx(330 / 360 - half))
    assert clean.high == pytest.approx(330 / 360 + half)
    assert (clean.seeds, clean.images) == (3, 360)


def test_one_seed_has_no_spread():
    row = only([record()]).rows[0]
    assert row.train_seconds.std is None
    clean = row.scores["clean"]
    assert (clean.std, clean.interval) == (None, "wilson")
    assert (clean.low, clean.high) == wilson(340, 360)


def test_an_interval_over_seeds_stays_within_what_is_possible():
    high = only([record(360), record(350, seed=1)]).rows[0].scores["clean"]
    low = only([record(0), record(10, seed=1)]).rows[0].scores["clean"]
    assert (low.low, high.high) == (0.0, 1.0)


def test_of_several_seeds_one_diverged_the_interval_is_that_of_the_others():
    row = only([record(340), record(seed=1, status="diverged")]).rows[0]
    assert (row.scores["clean"].interval, row.scores["clean"].seeds) == ("wilson", 1)


def test_evaluations_that_stopped_when_precise_enough_show_on_how_many_images():
    scores = [{"pgd-20": score(100, n)} for n in (200, 400)]
    group = only([record(seed=k, fields={"scores": one}) for k, one in enumerate(scores)])
    assert "n=200..400" in columns(group)[-1].details


@pytest.mark.parametrize(
    ("records", "expected"),
    [
        ([record()], ""),
        ([record(), record(seed=1, status="diverged"), record(seed=2)], "2 of 3 seeds valid, 1 diverged"),
        (
            [record(), *(record(seed=k, status=s) for k, s in enumerate(("failed", "running", "interrupted"), 1))],
            "1 of 4 seeds valid, 1 failed, 1 interrupted, 1 running",
        ),
        ([record(status="interrupted")], "interrupted"),
        ([record(fields={"events": [event("catastrophic-overfitting")]})], "catastrophic-overfitting"),
        (
            [record(fields={"events": [event("catastrophic-overfitting")]}), record(seed=1), record(seed=2)],
            "1 of 3 catastrophic-overfitting",
        ),
        ([record(fields=doubtful())], "suspect: gradient masking"),
        ([record(fields=doubtful()), record(seed=1, fields=doubtful()), record(seed=2)], f"{SUSPECT} (2 of 3)"),
        ([record(fields=doubtful(masked=False))], ""),
        ([record(fields=doubtful("softmax-outputs", masked=False))], "contract: softmax-outputs"),
        ([record(fields=selected(), select="best")], "best on val pgd-10"),
        ([record(fields=selected("restored", None)), record(seed=1)], "restored (1 of 2)"),
        ([record(fields=selected("last", None))], ""),
    ],
)
def test_a_status_tells_what_the_numbers_do_not(records, expected):
    assert status(only(records).rows[0]) == expected


def test_collapsed_and_suspect_runs_count():
    collapsed = {"events": [event("catastrophic-overfitting")]} | doubtful()
    [row] = only([record(340), record(0, seed=1, fields=collapsed)]).rows
    assert row.scores["clean"].mean == 340 / 720


def test_seeds_follow_their_row_where_they_are_asked_for():
    group = only([record(340), record(330, seed=1, seconds=5.0), record(seed=3, status="diverged")])
    lines = {column.title: [" ".join(cell) for cell in column.cells] for column in columns(group, per_seed=True)}
    assert lines["method"] == ["fgsm-rs", "· seed 0", "· seed 1", "· seed 3"]
    assert lines["time, s"] == ["4.00 ± 1.41", "3.00", "5.00", "-"]
    assert lines["clean"][1:] == ["94.4 [91.6, 96.4]", "91.7 [88.4, 94.1]", "-"]
    assert lines["status"] == ["2 of 3 seeds valid, 1 diverged", "", "", "diverged"]


def test_a_model_that_was_trained_elsewhere_has_neither_time_nor_recipe():
    group = only([external(lr=0.1), external(lr=0.2, seed=1, batch_size=512, schedule="cosine")])
    assert [row.seeds for row in group.rows] == [(0, 1)]
    assert not {column.title for column in columns(group)} & {"time, s", "x faster"}
    assert headings([group])[0] == (
        "digits, small-cnn, linf eps 51/255, trained elsewhere, AMD EPYC 9R14, 1 thread, protocol 1"
    )


def test_two_checkpoints_are_two_rows():
    means = ((0.5, 0.4, 0.3), (0.2, 0.2, 0.2))
    records = [external(checkpoint="a" * 64), external(checkpoint="b" * 64, normalize=means)]
    assert sorted(labels(only(records))) == [
        "external checkpoint=aaaaaaaa normalize=nothing",
        "external checkpoint=bbbbbbbb normalize=0.5,0.4,0.3;0.2,0.2,0.2",
    ]


@pytest.mark.parametrize(
    ("other", "name"),
    [
        ({"eval_engine": "fast"}, "fgsm-rs eval_engine=fast"),
        ({"eval_precision": {"autoattack": 2.0}}, "fgsm-rs autoattack precision=2"),
        ({"select": "best", "select_on": "clean"}, "fgsm-rs select=best select_on=clean"),
        ({"on_overfitting": "restore"}, "fgsm-rs on_overfitting=restore"),
    ],
)
def test_how_weights_were_chosen_and_scored_tells_rows_apart(other, name):
    assert name in labels(only([record(), record(**other)]))


def test_by_what_nothing_was_selected_does_not_matter():
    assert len(only([record(), record(seed=1, select_on="clean")]).rows) == 1
    without = {"evaluations": {"clean": None}}
    assert len(only([record(**without), record(seed=1, eval_engine="fast", **without)]).rows) == 1


def test_fast_evaluations_are_told_from_exact_ones():
    attack = {"version": "standard, fast", "engine": "fast"}
    fast = record(
        eval_engine="fast", fields={"scores": {"clean": score(90), "autoattack": score(9, 200, attack=attack)}}
    )
    mixed = only([record(), fast])
    cells = [" ".join(cell) for cell in columns(mixed)[-1].cells]
    assert ["fast" in cell for cell in cells] == ["fast" in label for label in labels(mixed)]
    clean, autoattack = columns(only([fast]))[-2:]
    assert (clean.details, autoattack.details) == (("n=360",), ("standard, fast", "n=200"))


def test_fgsm_is_weaker_than_pgd():
    scores = {"fgsm": score(9), "clean": score(20), "pgd-1": score(8), "autoattack": score(7)}
    assert only([record(fields={"scores": scores})]).evaluations == ["clean", "fgsm", "pgd-1", "autoattack"]


def test_a_diverged_run_is_shown_and_never_averaged_in():
    zero = {"scores": {"clean": score(0)}, "events": [event("diverged")]}
    row = only([record(340), record(status="diverged", seconds=0.1, seed=1, fields=zero)]).rows[0]
    assert row.statuses == {"diverged": 1, "finished": 1}
    assert row.events == {}  # the status says it
    assert row.scores["clean"].mean == 340 / 360
    assert row.train_seconds.mean == 3.0


def test_scores_of_a_row_that_only_diverged_are_its_scores():
    row = only([record(status="diverged", fields={"scores": {"clean": score(36)}})]).rows[0]
    assert row.scores["clean"].mean == 0.1
    assert row.train_seconds is None
    assert row.speedup is None


@pytest.mark.parametrize("status", ["running", "interrupted", "failed", "diverged"])
def test_a_run_without_a_result_has_its_row(status):
    group = only([record(), record(status=status, method="trades")])
    assert {row.label: row.statuses for row in group.rows} == {"fgsm-rs": {"finished": 1}, "trades": {status: 1}}


def test_a_run_that_knows_no_machine_yet_joins_its_seeds():
    early = record(status="failed", machine=None, data=None, seed=1)
    assert only([early, record()]).rows[0].statuses == {"failed": 1, "finished": 1}


def test_a_run_that_could_belong_to_two_machines_stays_alone():
    another = MACHINE.model_copy(update={"device": "another CPU"})
    early = record(status="failed", machine=None, data=None, seed=1)
    assert len(compare([early, record(), record(machine=another)])) == 3


def test_a_run_on_all_images_does_not_join_a_subset():
    assert len(compare([record(limit_train=500), record(status="failed", machine=None, data=None, seed=1)])) == 2


def test_rows_are_named_by_what_sets_them_apart():
    hyper = [{"beta": 6.0, "alpha": 1.25}, {"beta": 8.0, "alpha": 1.25}]
    records = [record(method="bs-trades", hyper=one, lr=lr) for one in hyper for lr in (0.1, 0.2)] + [record()]
    assert sorted(labels(only(records))) == [
        "bs-trades beta=6 lr=0.1",
        "bs-trades beta=6 lr=0.2",
        "bs-trades beta=8 lr=0.1",
        "bs-trades beta=8 lr=0.2",
        "fgsm-rs lr=0.1",  # the others' rates make its own worth saying
    ]


@pytest.mark.parametrize("field", [{"precision": "bf16"}, {"batch_size": 512}])
def test_another_precision_or_batch_size_is_another_table(field):
    assert len(compare([record(), record(**field)])) == 2


@pytest.mark.parametrize(
    ("other", "name"),
    [
        ({"schedule": "cosine"}, "fgsm-rs schedule=cosine"),
        ({"peak": "2/5"}, "fgsm-rs peak=2/5"),
        ({"source": "abcdef0123456789"}, "fgsm-rs source=abcdef01"),
        ({"evaluations": {"clean": None, "pgd-20": 100, "autoattack": 200}}, "fgsm-rs pgd-20 n=100"),
        ({"method": "mine/fgsm-rs.py"}, "fgsm-rs method=mine/fgsm-rs.py"),
    ],
)
def test_runs_that_are_not_repeats_are_not_averaged(other, name):
    found = labels(only([record(), record(**other)]))
    assert len(found) == 2
    assert name in found


def test_two_models_are_two_rows_with_one_label():
    rows = only([record(), record(model="resnet18")], sort="method").rows
    assert [(row.label, row.model) for row in rows] == [("fgsm-rs", "resnet18"), ("fgsm-rs", "small-cnn")]


def test_the_default_reference_is_the_slowest_finished_row():
    group = only(
        [record(), record(method="trades", seconds=9.0), record(method="pgd-at", seconds=99.0, status="failed")]
    )
    assert group.reference.label == "trades"
    assert {row.label: row.speedup for row in group.rows} == {"fgsm-rs": 3.0, "trades": 1.0, "pgd-at": None}


@pytest.mark.parametrize("name", ["trades", "trades beta=6"])
def test_a_reference_is_a_method_or_a_label(name):
    group = only(study(), reference=name)
    assert group.reference.label == "trades beta=6"
    assert group.reference.train_seconds.mean == 9.0


def test_of_several_rows_of_a_method_the_slowest_is_the_reference():
    records = [record(method="trades", hyper={"beta": beta}, seconds=beta) for beta in (6.0, 12.0, 3.0)]
    assert only(records, reference="trades").reference.label == "trades beta=12"
    assert only(records, reference="trades beta=6").reference.label == "trades beta=6"


def test_a_group_without_the_reference_says_so():
    groups = compare([record(), record(method="trades"), record(eps="8/255")], reference="trades")
    without, with_it = groups
    assert without.rows[0].speedup is None
    assert without.notes == ("no finished run of 'trades' here: nothing says how much faster the others are",)
    assert (with_it.reference.label, with_it.notes) == ("trades", ())


def test_a_reference_that_nothing_has_is_an_error():
    with pytest.raises(UsageError) as error:
        compare(study(), reference="tardes")
    assert str(error.value) == (
        "no run of 'tardes' to refer to; there are fgsm-rs, standard, trades beta=12, trades beta=6"
    )


def test_an_unknown_sort_key_is_an_error():
    with pytest.raises(UsageError) as error:
        compare(study(), sort="accuracy")
    assert str(error.value) == "cannot sort by 'accuracy'; there are method, time, clean, pgd-20, autoattack"


@pytest.mark.parametrize(
    ("sort", "expected"),
    [
        (None, ["trades beta=12", "trades beta=6", "fgsm-rs", "standard"]),
        ("autoattack", ["trades beta=12", "trades beta=6", "fgsm-rs", "standard"]),
        ("clean", ["standard", "fgsm-rs", "trades beta=6", "trades beta=12"]),
        ("pgd-20", ["trades beta=12", "trades beta=6", "fgsm-rs", "standard"]),
        ("time", ["standard", "fgsm-rs", "trades beta=12", "trades beta=6"]),
        ("method", ["fgsm-rs", "standard", "trades beta=12", "trades beta=6"]),
    ],
)
def test_rows_are_sorted(sort, expected):
    assert labels(only(study(), sort=sort)) == expected


def test_without_autoattack_the_strongest_pgd_decides():
    scores = [{"pgd-50-10": score(a), "pgd-20": score(b), "clean": score(300)} for a, b in ((10, 90), (20, 80))]
    records = [record(method=name, fields={"scores": one}) for name, one in zip("ab", scores, strict=True)]
    group = only(records)
    assert group.evaluations == ["clean", "pgd-20", "pgd-50-10"]
    assert labels(group) == ["b", "a"]


def test_rows_without_the_score_come_last():
    assert labels(only([record(status="diverged", method="a"), record(autoattack=0)])) == ["fgsm-rs", "a"]


def test_the_order_of_files_changes_nothing():
    records = [*study(), *(record(eps=f"{k}/255") for k in (2, 16, 8)), record(machine=None)]
    expected = compare(records)
    for seed in range(5):
        assert compare(random.Random(seed).sample(records, len(records))) == expected
    assert [group.setting.eps for group in expected] == ["2/255", "8/255", "16/255", "51/255"]


def test_a_file_given_twice_counts_once_and_is_mentioned():
    group = only([record(340), record(340), record(330, seed=1)])
    assert group.rows[0].seeds == (0, 1)
    assert group.notes == (f"several records of one run, of which the newest counts: {record().id}",)


def test_of_one_run_the_newest_result_counts():
    old = record(100, fields={"created": "2025-01-01T00:00:00Z"})
    again = record(status="running", fields={"created": "2027-01-01T00:00:00Z"})
    row = only([again, old, record(340)]).rows[0]
    assert row.statuses == {"finished": 1}
    assert row.scores["clean"].mean == 340 / 360


def test_different_versions_of_torch_are_mentioned():
    older = MACHINE.model_copy(update={"torch": "2.11.0"})
    assert only([record(), record(seed=1, machine=older)]).notes == ("not all with the same torch: 2.11.0, 2.14.0",)


def test_events_are_counted_once_per_run():
    collapsed = {"events": [event("collapse"), event("collapse", step=80)]}
    assert only([record(fields=collapsed), record(seed=1)]).rows[0].events == {"collapse": 1}


def test_a_row_says_which_attack_it_was():
    versions = [{"autoattack": score(9, attack={"version": name})} for name in ("standard", "custom(C=3)")]
    rows = [only([record(fields={"scores": one})]).rows[0] for one in versions]
    assert [row.scores["autoattack"].version for row in rows] == ["", "custom(C=3)"]


def test_no_time_makes_no_infinite_speed():
    assert {row.speedup for row in only([record(seconds=0.0), record(method="trades")]).rows} == {None, 1.0}


def test_nothing_compares_to_nothing():
    assert compare([]) == []


@pytest.mark.serial
def test_two_thousand_records_take_less_than_three_seconds():
    records = [
        record(300 + i % 40, seed=i // 400, method=f"method-{i % 40}", hyper={"beta": float(i // 40 % 10)})
        for i in range(2000)
    ]
    start = time.process_time()
    group = only(records)
    assert time.process_time() - start < 3
    assert len(group.rows) == 400
    assert not group.notes


def test_noise_is_told_of_the_runs_whose_time_counts():
    diverged = record(seed=2, status="diverged", fields=measured(noisy=True))
    [row] = only([record(fields=measured(noisy=True)), record(seed=1, fields=measured()), diverged]).rows
    assert row.events == {"noisy": 1}
    assert only([record(seed=1, fields=measured(noisy=None)), diverged]).rows[0].events == {}
