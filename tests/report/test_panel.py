import io

import pytest
from rich.console import Console

from fatbench.record.parts import EngineInfo, TargetInfo
from fatbench.report.comparison import compare
from fatbench.report.render.notes import footnotes
from fatbench.report.render.panel import panel
from fatbench.report.render.panel_lines import sparkline

from .records import doubtful, event, external, measured, record, score, selected


def printed(one, width=100):
    console = Console(width=width, file=io.StringIO(), force_terminal=False)
    console.print(one)
    return console.file.getvalue()


@pytest.mark.parametrize("status", ["running", "finished", "diverged", "interrupted", "failed"])
def test_a_record_with_nothing_in_it_has_a_panel(status):
    bare = record(status=status, machine=None, data=None, fields={"scores": {}, "timing": {}})
    assert status in printed(panel(bare))


@pytest.mark.parametrize("width", [20, 40, 80, 200])
def test_any_width_will_do(width):
    assert max(map(len, printed(panel(record()), width).splitlines())) <= width


def test_a_subset_is_flagged():
    assert "SUBSET" in printed(panel(record(limit_train=500)))
    assert "SUBSET" not in printed(panel(record()))


def test_throughput_counts_images_per_training_second():
    text = printed(panel(record(seconds=2.0, fields={"steps": 100, "passes": {"forward": 100 * 128 * 3}})))
    assert "6,400 images/s" in text
    assert "3 forward" in text


def test_a_run_that_stepped_in_no_time_has_no_rate():
    assert "images/s" not in printed(panel(record(seconds=0.0, fields={"steps": 1})))


def test_a_measured_speed_takes_the_place_of_the_mean():
    text = printed(panel(record(seconds=2.0, fields=measured())))
    assert text.count("images/s") == 1
    assert "6,213 images/s, median of 12 blocks, spread 2.0%" in text
    assert "26.0 GFLOP/s, 34.7% (MFU) of the 75.0 GFLOP/s" in text
    assert "1.23 kJ" in text
    assert "noisy" not in text


@pytest.mark.parametrize(
    ("noisy", "events", "why"),
    [(True, [], "its pace was uneven"), (True, [event("throttled")], "the device was throttled")],
)
def test_a_noisy_run_says_so_and_why(noisy, events, why):
    text = printed(panel(record(fields=measured(noisy, events=events))), width=200)
    assert f"noisy     do not rely on the speed of this run: {why}" in text
    assert "spread 31.0%" in text
    assert "accuracy: the budget" not in text


def test_under_a_time_budget_noise_is_said_to_change_accuracy_too():
    seconds = {"epochs": None, "train_seconds": 60.0}
    remark, footnote = "nor on its accuracy: the budget is time", "speed, nor on accuracy: within a time budget"
    for noisy in (True, False, None):
        one = record(**seconds, fields=measured(noisy))
        assert (remark in printed(panel(one))) is bool(noisy)
        assert (footnote in " ".join(footnotes(compare([one])[0]))) is bool(noisy)


def test_the_fast_engine_says_what_is_on_what_is_not_and_what_it_cost():
    info = EngineInfo(
        name="fast",
        precision="bf16",
        in_force={"fold": True, "shadow": True, "graph": False},
        notes={"graph": "CUDA graphs need a GPU"},
        compile_seconds=12.5,
    )
    text = printed(panel(record(fields={"engine": info})))
    assert "fast: fold, shadow" in text
    assert "no graph: CUDA graphs need a GPU" in text
    assert "compiled in 12.5 s" in text
    assert "captured" not in text
    assert "engine" not in printed(panel(record(fields={"engine": EngineInfo(name="reference", precision="fp32")})))


@pytest.mark.parametrize(("seconds", "words"), [(12.0, "after 12.0 s"), (None, "not reached")])
def test_a_target_says_when_it_was_reached(seconds, words):
    target = TargetInfo(target="pgd-10>=0.45", reached=seconds is not None, train_seconds=seconds)
    assert f"pgd-10>=0.45 {words}" in printed(panel(record(fields={"target": target})))


def test_what_is_not_known_is_not_claimed():
    compute = {"flops": 1e9, "flops_per_second": 5e8}
    text = printed(panel(record(fields=measured(None, compute=compute, energy_joules=None))))
    assert "too few to tell how even" in text
    assert "500 MFLOP/s" in text
    for unknown in ("noisy", "MFU", "energy"):
        assert unknown not in text


def test_another_version_of_the_attack_is_named():
    fields = {"scores": {"autoattack": score(10, attack={"version": "custom(C=3)"})}}
    assert "AutoAttack custom(C=3)" in printed(panel(record(fields=fields)))


def test_many_events_are_counted_rather_than_listed():
    text = printed(panel(record(fields={"events": [event("spike")] * 1000})))
    assert text.count("spike") == 8
    assert "and 992 more events" in text


@pytest.mark.parametrize(
    ("times", "shares", "expected"),
    [
        ([], [], ""),
        ([1.0], [0.5], "▅"),
        ([1.0, 1.0], [0.1, 1.0], "█"),
        ([0.0, 3.0], [0.0, 1.0], "▁▁▁█"),
        ([0.0, 1.0, 2.0, 3.0], [0.0, 0.3, 0.6, 1.0], "▁▃▅█"),
        ([0.0, 1.0, 3.0], [1.0, 0.0, 0.0], "█▁▁▁"),
    ],
)
def test_sparkline(times, shares, expected):
    assert sparkline(times, shares, width=4) == expected


def test_findings_and_masking_are_told_with_their_reasons():
    text = printed(panel(record(fields=doubtful("softmax-outputs"))))
    assert "softmax-outputs: mend it" in text
    assert "SUSPECT" in text
    assert "PGD stops at once" in text
    assert "no sign of masked gradients" in printed(panel(record(fields=doubtful(masked=False))))
    assert "masking" not in printed(panel(record()))


def test_many_findings_are_counted_rather_than_listed():
    text = printed(panel(record(fields=doubtful(*["odd"] * 100))))
    assert text.count("odd") == 8
    assert "and 92 more findings" in text


def test_the_scores_of_the_last_weights_stand_beside_those_of_the_selected():
    text = printed(panel(record(200, fields=selected(last_scores={"clean": score(100)}))))
    assert "the weights of epoch 7, 1.40 s: best on validation PGD-10" in text
    assert "clean of the last weights" in text
    assert "27.8" in text
    assert ": restored" in printed(panel(record(fields=selected("restored", None))))
    assert "scored" not in printed(panel(record(fields=selected("last", None))))


def test_autoattack_says_what_its_parts_took():
    scores = {"autoattack": score(9, 20, survivors={"apgd-ce": 12}, part_seconds={"apgd-ce": 12.5, "square": 700.0})}
    text = printed(panel(record(fields={"scores": scores})))
    assert "after apgd-ce (12.5 s)" in text
    assert "after square (11.7 min)" in text


def test_a_score_that_was_to_be_precise_says_how():
    scores = {"autoattack": score(100, 400, attack={"precision": 5.0})}  # [21.0, 29.5]
    assert "100 of 400, for ±5 points" in printed(panel(record(fields={"scores": scores})))


@pytest.mark.parametrize("attack", [{"precision": 4.2}, {"precision": 2.0}, {"precision": "high"}, {}])
def test_a_score_that_is_not_as_precise_does_not_say_so(attack):
    text = printed(panel(record(fields={"scores": {"autoattack": score(100, 400, attack=attack)}})))
    assert "100 of 400" in text
    assert "±" not in text


def test_a_fast_evaluation_says_so():
    assert "AutoAttack by the fast engine" in printed(panel(record(eval_engine="fast")))


def test_a_model_that_was_trained_elsewhere_shows_its_checkpoint_and_no_training():
    means = ((0.4914, 0.4822, 0.4465), (0.2471, 0.2435, 0.2616))
    text = printed(panel(external(normalize=means, fields={"timing": {"evaluation": 3.0}})))
    assert f"sha256 {'c' * 12}, trained elsewhere" in text
    assert "mean 0.4914 0.4822 0.4465, std 0.2471 0.2435 0.2616" in text
    assert "evaluation 3.00 s" in text
    for absent in ("recipe", "budget", "training", "fp32", "lr"):
        assert f"│ {absent}" not in text
    assert "by nothing but the model itself" in printed(panel(external()))
