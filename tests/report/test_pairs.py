import csv
import io
import json
import re

import numpy as np
import pytest
from rich.console import Console

from fatbench.errors import UsageError
from fatbench.record.samples import load_samples
from fatbench.report import outcomes, render
from fatbench.report.comparison import compare, with_pairs
from fatbench.report.run import Run
from fatbench.report.significance import exact_interval, holm, mcnemar, newcombe

from .records import doubtful, measured, record, run, samples, score, spec, standing, study

TRADES, STANDARD = {"method": "trades", "seconds": 9.0}, {"method": "standard", "hyper": {}, "seconds": 1.0}


def paired(runs, on=None):
    [group] = with_pairs(compare(runs), on)
    return group


def told(group):
    return [(pair.a.label, pair.b.label, pair.verdict) for pair in group.paired]


def printed(groups, width=140, **how):
    console = Console(width=width, file=io.StringIO(), color_system=None)
    for one in render.tables(groups, **how):
        console.print(one)
    return "\n".join(line.rstrip() for line in console.file.getvalue().splitlines())


def twice(folder, outcomes, **of):
    """Return two seeds that fared alike: with one seed each, no row is the best."""
    return [run(folder, outcomes, seed=seed, **of) for seed in (0, 1)]


def best(runs):
    [group] = compare(runs)
    return [row.label for row in group.rows if row.best]


def seeds(folder, stands, n=300, **of):
    """Return a run per seed, with so many images standing, not all of them the same."""
    for seed, count in enumerate(stands):
        order = np.random.default_rng(seed).permutation(n // 3)
        hard = np.concatenate([np.zeros(n - n // 3, dtype=int), order])  # most images fare alike with every seed
        ranked = np.lexsort((hard, np.arange(n) >= n - n // 3))
        outcomes = np.zeros(n, dtype=int)
        outcomes[ranked[:count]] = 1
        yield run(folder, outcomes.tolist(), seed=seed, **of)


def test_two_models_are_put_to_mcnemars_test(tmp_path):
    group = paired([run(tmp_path, standing(20, 8)), run(tmp_path, [1] * 17 + [0] * 3, **TRADES)])
    [pair] = group.paired
    assert (pair.a.label, pair.b.label, pair.images) == ("trades", "fgsm-rs", 20)
    assert (pair.difference, pair.p, pair.p_adjusted) == (9 / 20, mcnemar(9, 0), mcnemar(9, 0))
    assert (pair.low, pair.high) == (exact_interval(9, 0, 20)[0], newcombe(8, 9, 0, 3)[1])
    assert pair.verdict == "A better (these weights)"


def test_equal_rows_are_not_distinguishable(tmp_path):
    group = paired([run(tmp_path, standing(20, 8)), run(tmp_path, standing(20, 8), **TRADES)])
    assert [pair.verdict for pair in group.paired] == ["not distinguishable"]
    assert not any(row.best for row in group.rows)


def test_every_pair_is_tested_and_p_pays_for_it(tmp_path):
    runs = [
        run(tmp_path, standing(60, 20)),
        run(tmp_path, standing(60, 27), **TRADES),
        run(tmp_path, [0] * 60, **STANDARD),
    ]
    pairs = paired(runs).paired
    assert [(pair.a.label, pair.b.label) for pair in pairs] == [
        ("trades", "fgsm-rs"),
        ("trades", "standard"),
        ("fgsm-rs", "standard"),
    ]
    assert [pair.p for pair in pairs] == [mcnemar(7, 0), mcnemar(27, 0), mcnemar(20, 0)]
    assert [pair.p_adjusted for pair in pairs] == holm([pair.p for pair in pairs])


def test_one_row_against_every_other_pays_for_fewer_tests(tmp_path):
    counts = {"a": 60, "b": 52, "c": 51, "d": 30}
    groups = compare([run(tmp_path, standing(60, count), method=name) for name, count in counts.items()])
    [group] = with_pairs(groups, vs="b")
    assert [(pair.a.label, pair.b.label) for pair in group.paired] == [("a", "b"), ("b", "c"), ("b", "d")]
    assert [pair.p_adjusted for pair in group.paired] == holm([pair.p for pair in group.paired])
    every = {(pair.a.label, pair.b.label): pair for pair in with_pairs(groups)[0].paired}
    assert all(pair.p_adjusted <= every[pair.a.label, pair.b.label].p_adjusted for pair in group.paired)


def test_a_row_to_compare_with_is_one_row(tmp_path):
    twins = [run(tmp_path, standing(60, 30 + k), hyper={"alpha": 1.0 + k}) for k in range(2)]
    with pytest.raises(UsageError) as error:
        with_pairs(compare(twins), vs="fgsm-rs")
    assert str(error.value) == "--vs: several rows are 'fgsm-rs'; name one of fgsm-rs alpha=2, fgsm-rs alpha=1"
    assert len(with_pairs(compare(twins), vs="fgsm-rs alpha=2")[0].paired) == 1
    apart = run(tmp_path, standing(60, 30), **TRADES, eps="8/255")
    assert [len(group.paired) for group in with_pairs(compare([*twins, apart]), vs="trades")] == [0, 0]


def test_what_would_tell_them_apart_stands_beside_the_verdict(tmp_path):
    runs = [*seeds(tmp_path, (230, 200)), *seeds(tmp_path, (205, 190), **TRADES)]
    groups = with_pairs(compare(runs))
    [pair] = groups[0].paired
    raw = json.loads(render.json(groups))[0]["pairs"][0]
    assert (raw["needed_seeds"], raw["needed_images"], raw["needed_jointly"]) == tuple(pair.needed)
    text = " ".join(printed(groups, width=200).split())
    assert re.search(r"not distinguishable; about [\d,]+ seeds( (and|or) [\d,]+ images)? would tell", text)
    assert "at 80% power, if the difference is as large as seen" in text


def test_collapsed_rows_do_not_speak_for_others(tmp_path):
    rows = [*seeds(tmp_path, (200, 204, 202)), *seeds(tmp_path, (180, 183, 181), **TRADES)]
    event = {
        "events": [{"kind": "catastrophic-overfitting", "epoch": 3, "step": 1, "train_seconds": 1.0, "detail": ""}]
    }
    wild = list(seeds(tmp_path, (250, 100, 0), method="mart", fields=event))
    found = {frozenset((pair.a.label, pair.b.label)): pair for pair in paired([*rows, *wild]).paired}
    among, [alone] = found[frozenset(("trades", "fgsm-rs"))], paired(rows).paired
    assert (among.low, among.high, among.p) == (alone.low, alone.high, alone.p)
    assert among.p_adjusted > alone.p_adjusted


def test_seeds_are_averaged_and_an_invalid_one_left_out(tmp_path):
    runs = [*seeds(tmp_path, (200, 204, 202)), *seeds(tmp_path, (100, 103, 101), **TRADES)]
    runs.append(run(tmp_path, [0] * 300, seed=7, status="diverged"))
    [pair] = paired(runs).paired
    assert (pair.a.finished, len(pair.a.seeds)) == (3, 4)
    assert pair.difference == pytest.approx((606 - 304) / 900)
    assert pair.low < pair.difference < pair.high
    assert (pair.test, pair.verdict) == ("crossed random effects", "A better")


def test_seeds_that_disagree_leave_methods_indistinguishable(tmp_path):
    runs = [*seeds(tmp_path, (230, 200)), *seeds(tmp_path, (205, 190), **TRADES)]
    [pair] = paired(runs).paired
    assert pair.verdict == "not distinguishable"
    assert pair.low < 0 < pair.high


def test_only_shared_images_count_and_the_better_on_them_is_a(tmp_path):
    few = samples([1] * 10, first=0)
    runs = [run(tmp_path, [1] * 10, keep=few), run(tmp_path, standing(60, 10), **TRADES)]
    [pair] = paired(runs).paired
    assert (pair.images, pair.difference) == (10, 0.0)


def test_what_cannot_be_compared_says_why(tmp_path):
    old = record(method="old", fields={"scores": {"pgd-20": score(10, 60)}})
    apart = run(tmp_path, [1] * 5, keep=samples([1] * 5, first=1000), method="apart")
    failed = record(method="failed", status="failed")
    clean = record(method="clean", fields={"scores": {"clean": score(10, 60)}})
    group = paired([run(tmp_path, standing(60, 30)), old, apart, failed, clean])
    verdicts = {frozenset((pair.a.label, pair.b.label)): pair.verdict for pair in group.paired}
    assert verdicts[frozenset(("fgsm-rs", "old"))] == "no per-image outcomes"
    assert verdicts[frozenset(("fgsm-rs", "apart"))] == "no test image in common"
    assert verdicts[frozenset(("fgsm-rs", "failed"))] == "no valid run"
    assert verdicts[frozenset(("fgsm-rs", "clean"))] == "not evaluated on it"
    text = printed([group], width=200)
    assert "run these again with this one (--force)" in text


def test_one_seed_without_outcomes_is_not_passed_over(tmp_path):
    runs = list(seeds(tmp_path, (200, 204)))
    (tmp_path / runs[1].record.artefacts["samples"]).unlink()
    [pair] = paired([*runs, *seeds(tmp_path, (100, 103), **TRADES)]).paired
    assert pair.verdict == "no per-image outcomes"


def test_two_versions_of_an_attack_are_not_compared(tmp_path):
    custom = {"scores": {"pgd-20": score(8, 20, attack={"version": "custom(C=3)"})}}
    [pair] = paired([run(tmp_path, standing(20, 8)), run(tmp_path, standing(20, 8), **TRADES, fields=custom)]).paired
    assert pair.verdict == "not the same attack"


def test_without_outcomes_there_is_a_table_and_no_verdict():
    groups = with_pairs(compare(study()))
    assert {pair.verdict for group in groups for pair in group.paired} == {"no per-image outcomes"}


def test_one_row_has_no_pair(tmp_path):
    assert "no pair to compare here" in printed([paired([run(tmp_path, [1, 0])])])


def test_another_evaluation_on_request(tmp_path):
    runs = [run(tmp_path, standing(60, 50), name="clean"), run(tmp_path, standing(60, 30), name="clean", **TRADES)]
    assert [pair.evaluation for pair in paired(runs, "clean").paired] == ["clean"]
    with pytest.raises(UsageError) as error:
        paired(runs, "autoatack")
    assert str(error.value) == "no run was evaluated on 'autoatack'; there are clean"


@pytest.mark.parametrize(
    ("count", "expected"), [(2, ("A better", "crossed random effects")), (1, ("A better (these weights)", "mcnemar"))]
)
def test_every_format_tells_the_same(tmp_path, count, expected):
    runs = [*seeds(tmp_path, (200, 204)[:count]), *seeds(tmp_path, (100, 103)[:count], **TRADES)]
    groups = with_pairs(compare(runs))
    [line] = csv.DictReader(io.StringIO(render.csv(groups)))
    [raw] = json.loads(render.json(groups))[0]["pairs"]
    [pair] = groups[0].paired
    assert (line["a_label"], line["b_label"], line["verdict"]) == ("fgsm-rs", "trades", raw["verdict"])
    assert float(line["p_adjusted"]) == raw["p_adjusted"] == pair.p_adjusted
    assert (line["dataset"], line["images"]) == ("digits", "300")
    low_high = f"[{100 * pair.low:.1f}, {100 * pair.high:.1f}]"
    assert (raw["verdict"], raw["test"]) == expected
    for text in (printed(groups), render.markdown(groups)):
        assert expected[0] in text
        assert f"+{100 * pair.difference:.1f} {low_high}" in text
        assert "Holm" in text


def test_a_suspect_row_is_neither_best_nor_optimal(tmp_path):
    trusted, other = twice(tmp_path, standing(60, 50), **TRADES), twice(tmp_path, standing(60, 20))
    group = paired([*trusted, *other])
    assert [(row.label, row.best) for row in group.rows] == [("trades", True), ("fgsm-rs", False)]
    suspect = twice(tmp_path, standing(60, 50), **TRADES, fields=doubtful())
    group = paired([*suspect, *other])
    assert not any(row.best or row.pareto for row in group.rows if row.findings)
    assert told(group) == [("trades", "fgsm-rs", "A better")]
    assert "a verdict is no better than the scores: see the status of trades" in printed([group])


def test_the_best_is_better_than_every_other(tmp_path):
    first, close = twice(tmp_path, standing(60, 50), **TRADES), twice(tmp_path, standing(60, 47))
    last = twice(tmp_path, [0] * 60, **STANDARD)
    assert best([*first, *close, *last]) == []
    assert best([*first, *last]) == ["trades"]
    groups = compare([*first, *last])
    for text in (printed(groups), render.markdown(groups)):
        assert "trades ★" in text
        assert "★ best on PGD-20: distinguishable from all other rows evaluated on it" in " ".join(text.split())


def test_one_seed_is_never_the_best_nor_shows_that_another_is(tmp_path):
    """With one seed each McNemar's test tells weights apart, as those of one method are: nearly every other time."""
    high, low = twice(tmp_path, standing(60, 50), **TRADES), twice(tmp_path, standing(60, 20))
    assert best([*high, *low]) == ["trades"]
    assert best([high[0], low[0]]) == best([high[0], *low]) == best([*high, low[0]]) == []
    assert told(paired([high[0], low[0]])) == [("trades", "fgsm-rs", "A better (these weights)")]
    assert told(paired([*high, *low])) == told(paired([*high, low[0]])) == [("trades", "fgsm-rs", "A better")]
    assert best([*high, *low, run(tmp_path, [0] * 60, **STANDARD)]) == []


def test_only_valid_seeds_that_were_evaluated_on_it_make_a_best(tmp_path):
    high, low = twice(tmp_path, standing(60, 50), **TRADES), twice(tmp_path, standing(60, 20))
    diverged = record(status="diverged", seed=1)
    assert best([*high, low[0], diverged]) == []
    clean = {"scores": {"clean": score(50, 60)}}
    assert best([*high, low[0], record(seed=1, fields=clean)]) == []
    assert best([*high, *low, record(**STANDARD, fields=clean), record(method="b", status="failed")]) == ["trades"]
    collapsed = {"scores": {"pgd-20": score(0, 60)}}
    assert best([*high, *low, record(**STANDARD, status="diverged", fields=collapsed)]) == []


def test_a_single_seed_against_several_is_taken_to_spread_as_they_do(tmp_path):
    [pair] = paired([*seeds(tmp_path, (200, 204)), *seeds(tmp_path, (100,), **TRADES)]).paired
    assert pair.test == "crossed random effects"


def test_the_mark_of_the_best_is_what_paired_would_say(tmp_path):
    for lead, name in ((54, "close"), (40, "clear")):
        counts = (60, lead, lead - 1, 30, 20)  # 6 images ahead: p = 0.027, and of ten pairs 0.053
        runs = [one for count in counts for one in twice(tmp_path / name, standing(60, count), method=f"m{count}")]
        group = paired(runs)
        first = [pair for pair in group.paired if pair.a.label == "m60"]
        assert group.rows[0].best == all(pair.distinguishable for pair in first) == (name == "clear")


def test_without_outcomes_none_is_the_best(tmp_path):
    runs = [*twice(tmp_path, standing(60, 50), **TRADES), *twice(tmp_path, standing(60, 10))]
    assert best(runs) == ["trades"]
    assert best([one.record for one in runs]) == []
    assert best([*runs[:3], runs[3].record.model_copy(update={"artefacts": {}})]) == []


def test_of_many_records_none_is_read_for_a_mark(tmp_path, monkeypatch):
    one = run(tmp_path, standing(60, 50))
    runs = [Run(one.record.model_copy(update={"spec": spec(seed=seed)}), one.path) for seed in range(201)]
    monkeypatch.setattr(outcomes, "load_samples", None)  # calling it would raise
    assert len(compare([*runs, *twice(tmp_path, standing(60, 1), **TRADES)])[0].rows) == 2


def test_the_runner_up_settles_most_marks(tmp_path, monkeypatch):
    read = []
    monkeypatch.setattr(outcomes, "load_samples", lambda path: read.append(path) or load_samples(path))
    rows = [twice(tmp_path, standing(60, 30 + k // 2), method=f"m{k}") for k in range(10)]
    compare([one for row in rows for one in row])
    assert len(read) == 4
    compare([row[0] for row in rows])
    assert len(read) == 4  # one seed each: no file can make one of them the best


def optimal(records):
    [group] = compare(records)
    return {row.label for row in group.rows if row.pareto}


def test_pareto_optimal_rows_are_marked():
    points = {"a": (1.0, 10), "b": (2.0, 30), "c": (3.0, 20), "d": (4.0, 60), "e": (4.0, 50), "f": (1.0, 10)}
    records = [record(method=name, seconds=s, autoattack=count) for name, (s, count) in points.items()]
    assert optimal(records) == {"a", "b", "d", "f"}
    text = printed(compare(records))
    assert "◆ Pareto-optimal by the means" in text


def test_who_is_not_in_the_running_is_not_marked():
    failed = record(method="failed", seconds=0.1, status="failed")
    masked = record(method="masked", seconds=0.1, autoattack=199, fields=doubtful())
    assert optimal([record(), failed, masked, record(**TRADES, autoattack=120)]) == {"fgsm-rs", "trades"}
    assert optimal([record()]) == set()
    same_time = [record(epochs=None, train_seconds=60.0, method=name, autoattack=k) for k, name in enumerate("ab")]
    assert optimal(same_time) == set()
    unattacked = [record(method=name, fields={"scores": {"clean": score(k)}}) for k, name in enumerate("ab")]
    assert optimal(unattacked) == set()


def test_a_noisy_time_is_marked_as_such_too():
    records = [record(fields=measured(noisy=True)), record(**TRADES, autoattack=120)]
    assert "3.00*" in printed(compare(records))
