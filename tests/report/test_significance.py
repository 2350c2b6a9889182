import math
import random
import statistics

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from fatbench.report.seed_variance import moderated, observe, values
from fatbench.report.significance import difference, exact_interval, holm, least_p, mcnemar, needed, newcombe
from fatbench.statistics import wilson
from scripts.calibration import SPREADS, simulate

COUNT = st.integers(0, 400)


def rows(*seeds):
    return np.array(seeds, dtype=bool)


def seeds(accuracies, n=400, noise=0):
    """Return outcomes with so many images standing, the same ones where they can be, or others for every seed."""
    generator = np.random.default_rng(noise)
    order = generator.permutation(n)
    return rows(*(np.isin(order, np.arange(k)) for k in accuracies))


def test_mcnemar_by_hand():
    assert mcnemar(0, 0) == 1.0
    assert mcnemar(5, 0) == 2 * 0.5**5
    assert mcnemar(8, 2) == 2 * (1 + 10 + 45) / 2**10
    assert mcnemar(4, 4) == 1.0


@given(COUNT, COUNT)
def test_mcnemar_is_scipys_binomial_test(first, second):
    assert mcnemar(first, second) == mcnemar(second, first)
    if first + second:
        expected = stats.binomtest(first, first + second, 0.5).pvalue
        assert mcnemar(first, second) == pytest.approx(expected, rel=1e-9, abs=1e-300)


def test_ten_thousand_images_that_differ_are_no_trouble():
    assert 0 <= mcnemar(7000, 3000) < 1e-300
    assert mcnemar(5100, 4900) == pytest.approx(stats.binomtest(5100, 10_000).pvalue)


@pytest.mark.parametrize(
    ("table", "expected"),
    [  # as published in his paper
        ((36, 12, 2, 0), (0.0569, 0.3404)),
        ((18, 12, 2, 18), (0.0562, 0.3290)),
        ((53, 0, 0, 1), (-0.0729, 0.0729)),
        ((0, 30, 0, 0), (0.8395, 1.0)),
    ],
)
def test_newcombes_interval_is_his(table, expected):
    assert newcombe(*table) == pytest.approx(expected, abs=5e-5)


def between(first, second, *others):
    """The difference between two rows of a table that has these others."""
    variances = moderated([observe(row) for row in (first, second, *others)])
    return difference(first, second, variances and tuple(variances[:2]))


def drawn(first, second, variances, times=400_000):
    """Interval and p by drawing variances, and a normal difference with them."""
    draw = np.random.default_rng(1)
    each = np.concatenate([first.mean(axis=0) - second.mean(axis=0), [1, -1]])
    total = each.var() / len(each)
    for row, weights in zip((first, second), variances, strict=True):
        total = total + draw.choice(np.geomspace(0.001, 0.5, 28) ** 2, times, p=weights) / len(row)
    noise = np.abs(draw.standard_normal(times)) * np.sqrt(total)
    half = np.quantile(noise, 0.95)
    return each.mean() - half, each.mean() + half, (noise >= abs(each.mean())).mean()


@given(COUNT, COUNT, COUNT, COUNT)
def test_newcombes_interval_holds_the_difference_and_mirrors(both, first, second, neither):
    if n := both + first + second + neither:
        low, high = newcombe(both, first, second, neither)
        assert -1 - 1e-12 <= low <= (first - second) / n + 1e-12
        assert (first - second) / n - 1e-12 <= high <= 1 + 1e-12
        assert newcombe(both, second, first, neither) == pytest.approx((-high, -low), abs=1e-12)


@given(st.lists(st.floats(0, 1), max_size=12))
def test_holm_is_the_definition(ps):
    adjusted = holm(ps)
    ranked = sorted(range(len(ps)), key=lambda k: ps[k])
    steps = [min(1.0, (len(ps) - rank) * ps[k]) for rank, k in enumerate(ranked)]
    assert [adjusted[k] for k in ranked] == [max(steps[: rank + 1]) for rank in range(len(ps))]


def test_holm_by_hand():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([]) == []


def test_two_models_are_compared_exactly():
    found = between(rows([1, 1, 1, 1, 1, 1, 0, 0]), rows([1, 0, 0, 0, 0, 0, 0, 1]))
    assert (found.value, found.p, found.test) == (4 / 8, mcnemar(5, 1), "mcnemar")
    assert found.low == min(newcombe(1, 5, 1, 1)[0], exact_interval(5, 1, 8)[0])
    assert found.high == max(newcombe(1, 5, 1, 1)[1], exact_interval(5, 1, 8)[1])


@given(st.integers(0, 60), st.integers(0, 60), st.integers(0, 300))
def test_the_exact_interval_and_the_exact_test_agree(first, second, others):
    if first + second:
        low, high = exact_interval(first, second, first + second + others)
        assert (low > 0 or high < 0) == (mcnemar(first, second) < 0.05)
        shares = stats.binomtest(first, first + second).proportion_ci(method="exact")
        scale = (first + second) / (first + second + others)
        assert (low, high) == pytest.approx((scale * (2 * shares.low - 1), scale * (2 * shares.high - 1)), abs=1e-9)


@pytest.mark.parametrize("runs", [(1, 1), (2, 2), (3, 1), (1, 2)])
def test_equal_methods_are_not_distinguishable(runs):
    one = seeds([100])
    first, second = (np.repeat(one, count, axis=0) for count in runs)
    found = between(first, second)
    assert (found.value, found.p) == (0.0, pytest.approx(1.0))
    assert found.low <= 0 <= found.high


@pytest.mark.parametrize(
    ("ours", "theirs"), [((200, 210, 190), (180, 170)), ((200, 230), (160,)), ((90, 91), (70, 72))]
)
def test_the_mean_over_variances_is_what_drawing_them_gives(ours, theirs):
    first, second = seeds(ours, noise=1), seeds(theirs, noise=2)
    variances = moderated([observe(row) for row in (first, second)])
    found, (low, high, p) = between(first, second), drawn(first, second, variances)
    assert (found.low, found.high) == pytest.approx((low, high), abs=0.003)
    assert found.p == pytest.approx(p, abs=0.003)
    assert found.test == "crossed random effects"


def test_where_seeds_decide_it_is_near_a_t_test_on_them():
    draw = np.random.default_rng(3)
    first, second = (seeds(draw.normal(mean, 160, 40).astype(int), n=20_000) for mean in (8_000, 8_100))
    found, students = between(first, second), stats.ttest_ind(first.mean(axis=1), second.mean(axis=1))
    assert found.p == pytest.approx(students.pvalue, rel=0.1)
    assert 0.001 < found.p < 0.05
    assert (found.low, found.high) == pytest.approx(students.confidence_interval(), abs=5e-4)


def test_where_images_decide_it_is_a_test_on_them():
    first, second = seeds([200] * 50), seeds([150] * 50)  # 50 images apart, and seeds all alike
    found = between(first, second)
    students = stats.ttest_1samp([*(first.mean(axis=0) - second.mean(axis=0)), 1, -1], 0)
    assert found.p == pytest.approx(students.pvalue, rel=0.5)
    assert (found.low, found.high) == pytest.approx(students.confidence_interval(), abs=5e-4)
    assert least_p(first, second) <= found.p


def test_p_has_no_floor():
    assert between(seeds([10_000] * 5, n=10_000), seeds([0] * 5, n=10_000), *[seeds([50] * 5)] * 20).p < 1e-12


def twin(rows, which):
    """The moderated variance of a row as plain loops have it: the likelihoods of its seeds, and the prior."""
    possible = [(0.001 * 500 ** (k / 27)) ** 2 for k in range(28)]

    def likelihoods(row):
        variance = statistics.variance([sum(seed) / len(seed) for seed in row])
        within = statistics.fmean(statistics.variance(image) for image in zip(*row, strict=True)) / len(row[0])
        freedom = len(row) - 1
        return [stats.chi2.pdf(freedom * variance / (value + within), freedom) / (value + within) for value in possible]

    known = {id(row): likelihoods(row) for row in rows}

    def posterior(row, prior):
        weights = [chance * likely for chance, likely in zip(prior, known[id(row)], strict=True)]
        return [one / sum(weights) for one in weights]

    prior, anything = [1 / 28] * 28, 16 / len(rows) ** 2 / 28
    for _ in range(5):
        shown = [posterior(row, prior) for row in rows]
        prior = [sum(column) + anything for column in zip(*shown, strict=True)]
    others = [row for k, row in enumerate(shown) if k != which]
    return posterior(rows[which], [sum(column) + anything for column in zip(*others, strict=True)])


def test_moderated_variances_are_plain_empirical_bayes():
    draw = np.random.default_rng(0)
    table = [(draw.random((3, 60)) < draw.normal(0.5, 0.1, (3, 1))).astype(int).tolist() for _ in range(4)]
    found = moderated([observe(rows(*row)) for row in table])
    for which in range(4):
        assert found[which] == pytest.approx(twin(table, which), rel=1e-9)


def test_one_wild_row_hardly_moves_another_and_an_unsound_one_not_at_all():
    table = [seeds([200 + 3 * k, 204, 196 - k], noise=k) for k in range(8)]
    wild = seeds([380, 200, 20], noise=9)
    alone = between(table[0], table[3], *table[4:])
    among = between(table[0], table[3], *table[4:], wild)
    assert among.high - among.low == pytest.approx(alone.high - alone.low, rel=0.05)
    seen = [observe(row) for row in table]
    without, unsound = moderated(seen), moderated([*seen, observe(wild, sound=False)])
    assert all((one == other).all() for one, other in zip(without, unsound[:-1], strict=True))
    deviations = [math.sqrt(weights @ values()) for weights in unsound]
    assert deviations[-1] > 0.2 > 0.04 > max(deviations[:-1])  # its own seeds say so


def test_rows_of_one_seed_have_no_variance_but_that_of_others():
    one, several = seeds([200]), seeds([200, 210, 190])
    assert moderated([observe(one), observe(one)]) is None
    assert between(one, seeds([150]), one).test == "mcnemar"
    found = between(one, seeds([150]), several)
    assert found.test == "mcnemar"  # about these two models, whatever else there is
    single, _ = moderated([observe(one), observe(several)])
    assert single.sum() == pytest.approx(1)
    assert 0.01 < math.sqrt(single @ values()) < 0.3


def test_other_rows_tell_how_much_seeds_differ():
    first, second = seeds([200, 208]), seeds([160, 168])
    steady = [seeds([100 + k, 102 + k, 101 + k]) for k in range(10)]
    assert between(first, second, *steady).p < between(first, second).p / 3


@given(st.integers(1, 30), st.data())
def test_equal_accuracies_are_never_distinguishable(n, data):
    count = data.draw(st.integers(0, n))
    first, second = (seeds([count] * data.draw(st.integers(1, 3)), n, noise=noise) for noise in (1, 2))
    assert between(first, second).p == pytest.approx(1.0)


def test_where_images_decide_seeds_alone_prove_nothing():
    first, second = rows([1, 1, 1, 0], [1, 1, 1, 0]), rows([1, 1, 0, 0], [1, 1, 0, 0])  # every seed agrees
    found = between(first, second)
    assert found.p > 0.5  # one image differs
    assert found.value == 0.25


def test_five_images_cannot_be_significant():
    """A sign-flip test on them could not be, either: its p is 2 / 2**5 at least."""
    found = between(seeds([205] * 3), seeds([200] * 3))
    assert found.p > 0.05
    assert found.low < 0


def test_a_clear_difference_is_found():
    found = between(seeds([300, 302, 301], noise=1), seeds([200, 203, 201], noise=2))
    assert found.p < 0.01
    assert 0.15 < found.low < found.value < found.high < 0.35


def test_it_is_reproducible_and_blind_to_the_order_of_images():
    first, second = seeds([200, 210], noise=1), seeds([190, 185], noise=2)
    found = between(first, second)
    shuffled = random.Random(0).sample(range(400), 400)
    assert between(first, second) == found
    assert between(first[:, shuffled], second[:, shuffled]) == found


def test_swapping_sides_mirrors_the_result():
    first, second = seeds([200, 210], noise=1), seeds([190, 185, 180], noise=2)
    found, mirrored = between(first, second), between(second, first)
    assert mirrored.value == pytest.approx(-found.value)
    assert (-mirrored.high, -mirrored.low) == pytest.approx((found.low, found.high), abs=0.004)
    assert mirrored.p == pytest.approx(found.p, abs=0.02)


@pytest.mark.parametrize(("rows", "kind", "tables"), [(2, "even", 200), (10, "even", 40), (10, "uneven", 40)])
def test_false_alarms_are_as_rare_as_promised_and_intervals_hold(rows, kind, tables):
    spreads = [SPREADS[kind][k % len(SPREADS[kind])] for k in range(rows)]
    tally, _ = simulate([0.45] * rows, spreads, 3, 1_000, tables)
    assert tally.false_alarms <= 0.05 * tables + 3 * math.sqrt(0.05 * 0.95 * tables)
    assert 0.91 < tally.held / tally.pairs < 0.995


def test_differences_are_found():
    _, told = simulate([0.55, *[0.45] * 9], [1.0] * 10, 5, 1_000, 10)
    assert sum(told[:9]) / 9 > 0.9


@pytest.mark.parametrize("level", [0.05, 0.05 / 300])
def test_what_is_needed_is_what_makes_the_difference_large_enough(level):
    found = between(seeds([200, 205, 195], noise=1), seeds([192, 190, 188], noise=2), seeds([100, 110, 105]))
    a, b, c = found.components
    seen = -stats.norm.ppf(found.p / 2)
    goal = (a / 400 + b / 1200 + c / 3) * (seen / (-stats.norm.ppf(level / 2) + stats.norm.ppf(0.8))) ** 2
    need = needed(found, level)
    enough = [(s, n) for s, n in ((need.seeds, 400), (3, need.images)) if s and n]
    if need.jointly:
        enough = [(need.seeds, need.images)]
    assert enough
    for s, n in enough:
        assert a / n + b / (s * n) + c / s <= goal * (1 + 1e-9)
        fewer = (s - 1, n) if n == 400 else (s, n - 1)
        assert need.jointly or a / fewer[1] + b / (fewer[0] * fewer[1]) + c / fewer[0] > goal


def test_two_models_need_images_and_no_seeds():
    first, second = seeds([212]), seeds([203], noise=1)
    found = difference(first, second, None)
    times = (stats.norm.ppf(0.8) + stats.norm.ppf(0.975)) / -stats.norm.ppf(found.p / 2)
    assert needed(found, 0.05) == (None, math.ceil(400 * times**2), False)
    assert needed(difference(first, first, None), 0.05) is None  # no difference at all


def test_nothing_is_needed_where_it_is_told():
    assert needed(between(seeds([300] * 3), seeds([100] * 3)), 0.05) is None


def test_wilson_is_what_newcombe_builds_on():
    low, high = newcombe(0, 20, 0, 0)  # 20 of 20 against 0 of 20
    assert low == pytest.approx(1 - math.hypot(1 - wilson(20, 20)[0], wilson(0, 20)[1]))
    assert high == 1.0
