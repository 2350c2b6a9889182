import io

import pytest
from rich.console import Console

from fatbench.record import EngineInfo, TargetInfo
from fatbench.report.curve import sparkline
from fatbench.report.panel import panel

from .records import event, measured, record, score


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
