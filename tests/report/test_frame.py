import pandas as pd
import pytest

from fatbench.report.frame import frame

from .records import doubtful, external, measured, record, score, selected, study


def test_a_line_per_record_with_raw_numbers():
    found = frame(study())
    assert len(found) == 8
    first = found.iloc[0]
    assert (first.method, first.seed, first.train_seconds) == ("fgsm-rs", 0, 3.0)
    assert (first.clean_correct, first.clean_total, first.pgd_20_correct) == (341, 360, 205)
    assert (first.eps, first.epsilon, first.epochs) == ("51/255", 0.2, 15)
    assert (first.device, first.machine, first.torch_version) == ("cpu", "AMD EPYC 9R14", "2.14.0")


def test_accuracies_by_group_are_one_line_of_pandas():
    found = frame(study())
    share = (found.clean_correct / found.clean_total).groupby([found.method, found.hyper_beta], dropna=False).mean()
    assert share["trades", 6.0] == pytest.approx((330 + 333) / 720)


def test_what_a_record_lacks_is_missing():
    found = frame([record(), record(status="running", machine=None, data=None, seed=1)])
    assert pd.isna(found.clean_correct[1])
    assert pd.isna(found.machine[1])
    assert pd.isna(found.test_images[1])


def test_a_time_budget_is_not_the_time_taken():
    found = frame([record(epochs=None, train_seconds=60.0, seconds=61.5)])
    assert (found.budget_seconds[0], found.train_seconds[0]) == (60.0, 61.5)


def test_a_score_may_not_pose_as_a_time():
    assert frame([record(fields={"scores": {"train": score(1, seconds=99.0)}})]).train_seconds[0] == 3.0


def test_what_was_measured_has_columns_and_older_records_lack_it():
    found = frame([record(fields=measured(noisy=True)), record(seed=1)])
    first = found.iloc[0]
    assert (first.images_per_second, first.blocks, first.noisy) == (6213.4, 12, True)
    assert (first.flops, first.mfu, first.energy_joules) == (8.1e10, 0.3467, 1234.5)
    assert found.loc[1, ["images_per_second", "noisy", "mfu", "energy_joules"]].isna().all()


def test_no_records_make_an_empty_frame():
    assert frame([]).empty


def test_whether_scores_can_be_relied_on_and_of_which_weights_they_are():
    timed = {"scores": {"autoattack": score(9, part_seconds={"apgd-ce": 2.5})}}
    means = ((0.5,), (0.2,))
    first = record(
        fields=doubtful("b", "a") | selected() | timed, eval_engine="fast", eval_precision={"autoattack": 2.0}
    )
    found = frame([first, record(seed=1), external(normalize=means)])
    one = found.iloc[0]
    assert (one.masking, one.findings, one.selection, one.selection_epoch) == ("suspect", "a,b", "best", 7)
    assert (one.eval_engine, one.eval_precision_autoattack, one.autoattack_apgd_ce_seconds) == ("fast", 2.0, 2.5)
    assert found.loc[1, ["masking", "findings", "selection"]].isna().all()
    assert (found.checkpoint[2], found.normalize[2]) == ("c" * 64, means)
