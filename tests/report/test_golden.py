"""Every format as it is printed. After a wanted change, delete the files in golden/ and run the tests twice."""

import csv
import io
import json
import re
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from rich.console import Console

from fatbench.report import render
from fatbench.report.comparison import compare, with_pairs
from fatbench.report.regression import check
from fatbench.report.render.panel import panel
from fatbench.report.run import Run, load_runs
from fatbench.report.thresholds import parse_threshold

from .records import doubtful, event, external, measured, probe, record, run, score, standing, study

GOLDEN = Path(__file__).parent / "golden"


def many_attacks():
    """Return runs whose tables are as wide as they come: spreads, five evaluations, two models, a custom attack."""
    names = {"clean": 340, "pgd-20": 200, "pgd-50": 199, "pgd-50-10": 196}

    def scores(autoattack, total):
        attacked = score(autoattack, total, attack={"version": "custom(C=3)"})
        return {"scores": {name: score(count) for name, count in names.items()} | {"autoattack": attacked}}

    def run(seed, model, autoattack, total=360):
        return record(method="bs-trades", model=model, seed=seed, limit_train=500, fields=scores(autoattack, total))

    return [run(0, "small-cnn", 180), run(1, "small-cnn", 183), run(0, "preactresnet18", 90, 200)]


def one_run():
    """Return a run with something in every field that a panel shows."""
    fields = {
        "steps": 150,
        "data_passes": 15.0,
        "parameters": 54410,
        "passes": {"forward": 2 * 19200, "input_backward": 19200, "weight_backward": 19200},
        "timing": {"setup": 0.4, "train": 3.1, "probe": 0.3, "evaluation": 20.5},
        "budget": {"epochs": 15, "train_seconds": None, "stopped_by": "epochs"},
        "memory": {"process": 500_000_000},
        "history": [probe(k, int(180 * (1 - 0.7**k)), int(110 * (1 - 0.8**k)) if k < 12 else 10) for k in range(1, 16)],
        "events": [event("collapse", detail="PGD fell from 56% to 6%")],
        "scores": {
            "clean": score(340),
            "autoattack": score(100, 200, survivors={"apgd-ce": 120, "apgd-t": 100}, warnings=["the model is random"]),
        },
    }
    return record(seed=3, fields=fields)


def throttled_run():
    """Return a run with a full account of what it cost, on a GPU that grew hot."""
    events = [event("throttled", detail="hardware slowdown, hardware thermal slowdown")]
    return record(fields=measured(noisy=True, events=events))


def noisy_study():
    """Return runs of which one of two seeds was disturbed, one run was quiet, and of one nothing is known."""
    trades = {"method": "trades", "seconds": 9.0}
    return [
        record(fields=measured(noisy=True)),
        record(seed=1, fields=measured()),
        record(**trades, fields=measured(noisy=None)),
        record(method="standard", seconds=1.0, fields=measured(noisy=False)),
    ]


def paired_study():
    """Return three runs with their outcomes, every two compared: one better, one pair alike, one suspect."""
    with TemporaryDirectory() as folder:
        runs = [
            run(Path(folder), standing(200, 120), method="trades", hyper={}, seconds=9.0),
            run(Path(folder), [0] * 5 + standing(195, 115), method="fgsm-rs", hyper={}),
            run(Path(folder), standing(200, 60), method="standard", hyper={}, seconds=1.0, fields=doubtful()),
        ]
        old = record(method="old", hyper={}, seconds=4.0, fields={"scores": {"pgd-20": score(50, 200)}})
        return with_pairs(compare([*runs, old]))


def failing_checks():
    """Return a comparison with a baseline in which everything happens."""
    old = [record(), record(method="trades"), record(method="gone")]
    new = [record(seconds=4.0, autoattack=90), record(method="trades", status="failed"), record(method="new")]
    limits = [parse_threshold(text) for text in ("train_seconds:+10%", "autoattack:-1.0pp")]
    return check(list(map(Run, new)), list(map(Run, old)), limits)


def printed(*renderables, width=100):
    console = Console(width=width, file=io.StringIO(), record=True, force_terminal=False, legacy_windows=False)
    for one in renderables:
        console.print(one)
    return "\n".join(line.rstrip() for line in console.export_text().splitlines()) + "\n"


@pytest.mark.parametrize(
    ("name", "make"),
    [
        ("study-140.txt", lambda: printed(*render.tables(compare(study())), width=140)),
        ("study-100.txt", lambda: printed(*render.tables(compare(study())))),
        ("study-80.txt", lambda: printed(*render.tables(compare(study())), width=80)),
        ("study-60.txt", lambda: printed(*render.tables(compare(study())), width=60)),
        ("attacks-100.txt", lambda: printed(*render.tables(compare(many_attacks())))),
        ("noisy-100.txt", lambda: printed(*render.tables(compare(noisy_study())))),
        ("noisy.md", lambda: render.markdown(compare(noisy_study()))),
        ("paired-140.txt", lambda: printed(*render.tables(paired_study()), width=140)),
        ("paired-60.txt", lambda: printed(*render.tables(paired_study()), width=60)),
        ("paired.md", lambda: render.markdown(paired_study())),
        ("per-seed-140.txt", lambda: printed(*render.tables(compare(study()), per_seed=True), width=140)),
        ("per-seed.md", lambda: render.markdown(compare(study()), per_seed=True)),
        ("per-seed.csv", lambda: render.csv(compare(study()), per_seed=True)),
        ("checks.txt", lambda: "".join(f"{one}\n" for one in failing_checks())),
        ("checks.json", lambda: render.json([], checks=failing_checks())),
        ("panel-external.txt", lambda: printed(panel(external(fields=doubtful("logits")), Path("results/x.json")))),
        ("study.md", lambda: render.markdown(compare(study()))),
        ("study.csv", lambda: render.csv(compare(study()))),
        ("study.json", lambda: render.json(compare(study()))),
        ("panel.txt", lambda: printed(panel(one_run(), Path("results/one.json")))),
        ("panel-throttled.txt", lambda: printed(panel(throttled_run()))),
        (
            "panel-running.txt",
            lambda: printed(panel(record(status="running", machine=None, data=None, limit_train=500))),
        ),
    ],
)
def test_output_is_as_it_was(name, make):
    path = GOLDEN / name
    if not path.exists():
        path.parent.mkdir(exist_ok=True)
        path.write_text(make(), encoding="utf-8")
        pytest.fail(f"wrote {path}; read it before you commit it")
    assert make() == path.read_text(encoding="utf-8")


def committed():
    return [record for record, _ in load_runs([str(Path(__file__).parents[2] / "results")], pytest.fail)]


@pytest.mark.parametrize("width", range(40, 181, 10))
@pytest.mark.parametrize("records", [study, many_attacks, committed])
def test_no_width_cuts_a_number_and_what_is_left_out_is_said(records, width):
    groups = compare(records())
    text = printed(*render.tables(groups), width=width)
    assert max(map(len, text.splitlines())) <= width
    scores = [(row, one) for group in groups for row in group.rows for one in row.scores.values()]
    spread = [f" ± {100 * one.std:.1f}" if one.std is not None else "" for _, one in scores]
    means = [f"{100 * one.mean:.1f}{std}" for (_, one), std in zip(scores, spread, strict=True)]
    bounds = [f"[{100 * one.low:.1f}, {100 * one.high:.1f}]" for _, one in scores]
    sizes = [f"n={one.images}" for _, one in scores]
    said = re.search("left out, as the terminal is narrow: (.*)", text)
    gone = said[1].split(" and ") if said else []
    squeezed = " ".join(text.split())
    lacking = {name for name, texts in (("95% intervals", bounds), ("n", sizes)) if any(t not in text for t in texts)}
    assert (lacking, [one for one in means if one not in squeezed]) == (set(gone), [])
    seeds = re.search("seeds: (.*) in each row", text)
    assert "seeds  " in text or (seeds and {str(len(row.seeds)) for row, _ in scores} == {seeds[1]})


def test_all_that_a_row_holds_fits_into_eighty_columns():
    text = printed(*render.tables(compare(committed())), width=80)
    assert "left out" not in text
    assert "method            time, s faster        n=497        n=497        n=200 status" in text


@pytest.mark.parametrize("width", range(40, 181, 20))
def test_no_width_cuts_a_difference(width):
    groups = paired_study()
    text = printed(*render.tables(groups), width=width)
    assert max(map(len, text.splitlines())) <= width
    wanted = [
        one
        for pair in groups[0].paired
        if pair.difference is not None
        for one in (f"{100 * pair.difference:+.1f}", f"[{100 * pair.low:.1f}, {100 * pair.high:.1f}]")
    ]
    assert wanted
    assert [one for one in wanted if one not in " ".join(text.split())] == []


def test_csv_reads_back_as_the_raw_numbers():
    group = compare(study())[0]
    lines = list(csv.DictReader(io.StringIO(render.csv([group]))))
    assert [line["label"] for line in lines] == [row.label for row in group.rows]
    assert [float(line["clean_low"]) for line in lines] == [row.scores["clean"].low for row in group.rows]
    assert [float(line["speedup"]) for line in lines] == [row.speedup for row in group.rows]


def test_json_reads_back_as_the_raw_numbers():
    group = compare(study())[0]
    [read] = json.loads(render.json([group]))
    assert read["setting"]["eps"] == "51/255"
    assert [row["scores"]["clean"]["mean"] for row in read["rows"]] == [r.scores["clean"].mean for r in group.rows]


def test_groups_that_differ_in_their_data_only_show_its_hash():
    other = record().data.model_copy(update={"sha256": "abcdef01" * 8})
    text = printed(*render.tables(compare([record(), record(data=other)])))
    assert "data abcdef01" in text
    assert "data dddddddd" in text


def test_nothing_to_compare_says_so():
    assert printed(*render.tables([])) == "nothing to compare\n"
    assert json.loads(render.json([])) == []
