import math
import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from fatbench.report.significance import difference, exact_interval, holm, mcnemar, newcombe, seed_spread
from fatbench.statistics import wilson

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


def between(first, second):
    """The difference between two rows of a table that has no others."""
    return difference(first, second, seed_spread([one.mean(axis=1).tolist() for one in (first, second)]))


def t_test(first, second):
    """Interval and p of the seeds' accuracies, each row's spread being its own or the pooled one, if that is larger."""
    shares = [one.mean(axis=1) for one in (first, second)]
    freedom = sum(len(one) - 1 for one in shares)
    own = [np.var(one, ddof=1) if len(one) > 1 else 0.0 for one in shares]
    pooled = sum((len(one) - 1) * variance for one, variance in zip(shares, own, strict=True)) / freedom
    error = math.sqrt(sum(max(variance, pooled) / len(one) for one, variance in zip(shares, own, strict=True)))
    found, half = shares[0].mean() - shares[1].mean(), stats.t.ppf(0.975, freedom) * error
    return found - half, found + half, 2 * stats.t.sf(abs(found) / error, freedom)


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
    assert (found.value, found.p) == (0.0, 1.0)
    assert found.low <= 0 <= found.high


def test_the_bootstrap_is_scipys():
    first, second = seeds([200, 210, 190], noise=1), seeds([180, 170], noise=2)
    found = between(first, second)
    each = first.mean(axis=0) - second.mean(axis=0)
    scipys = stats.bootstrap((each,), np.mean, method="percentile", n_resamples=9_999, rng=np.random.default_rng(3))
    seeds_low, seeds_high, p = t_test(first, second)
    low, high = scipys.confidence_interval
    assert found.low == pytest.approx(min(low, seeds_low), abs=0.004)  # two bootstraps differ by as much
    assert found.high == pytest.approx(max(high, seeds_high), abs=0.004)
    assert found.p >= p - 1e-12


@pytest.mark.parametrize("theirs", [[170, 150], [160, 160], [150]])
def test_where_seeds_decide_it_is_a_t_test_on_them(theirs):
    first, second = seeds([200, 240, 220]), seeds(theirs)  # thousands of images apart, hardly any seeds
    found = between(first, second)
    assert (found.low, found.high, found.p) == pytest.approx(t_test(first, second))
    assert found.test == "bootstrap and t"


def test_seeds_that_spread_alike_are_put_to_students_test():
    first, second = seeds([200, 240, 220]), seeds([170, 130, 150])
    students = stats.ttest_ind(first.mean(axis=1), second.mean(axis=1))
    assert between(first, second).p == pytest.approx(students.pvalue)


def test_other_rows_tell_how_much_seeds_differ():
    few, many = [[0.50, 0.52], [0.40, 0.42]], [[0.50, 0.52], [0.40, 0.42], [0.3, 0.32, 0.34], [0.2]]
    assert seed_spread(few) == (pytest.approx(0.02 / math.sqrt(2)), 2)
    assert seed_spread(many).freedom == 4
    assert seed_spread(many).deviation == pytest.approx(math.sqrt((2 * 0.0002 + 2 * 0.0004) / 4))
    assert seed_spread([[0.5], [0.4]]) is None
    first, second = seeds([200, 208], n=400), seeds([160, 168], n=400)
    shares = [one.mean(axis=1).tolist() for one in (first, second)]
    alone, among = seed_spread(shares), seed_spread([*shares, [0.3, 0.32], [0.1, 0.12], [0.2, 0.22]])
    assert difference(first, second, among).p < difference(first, second, alone).p


def test_a_tie_among_seeds_is_not_the_absence_of_seed_variance():
    found = between(seeds([100, 100], n=200), seeds([74], n=200))
    t = (26 / 200) / (1 / 200 * math.sqrt(1 / 2 + 1))  # both sides spread by one image
    half = stats.t.ppf(0.975, 1) / 200 * math.sqrt(3 / 2)
    assert found.p == pytest.approx(2 * stats.t.sf(t, 1))
    assert (found.low, found.high) == pytest.approx((0.13 - half, 0.13 + half))


def test_ties_on_both_sides_are_a_spread_of_one_image_each():
    found = between(seeds([100, 100], n=200), seeds([92, 92], n=200))
    students = stats.ttest_ind_from_stats(0.5, 1 / 200, 2, 0.46, 1 / 200, 2)
    assert found.p == pytest.approx(max(students.pvalue, 2 * 0.5**8))


@given(st.integers(1, 30), st.data())
def test_equal_accuracies_are_never_distinguishable(n, data):
    count = data.draw(st.integers(0, n))
    first, second = (seeds([count] * data.draw(st.integers(1, 3)), n, noise=noise) for noise in (1, 2))
    assert between(first, second).p == 1.0


def test_where_images_decide_seeds_alone_prove_nothing():
    first, second = rows([1, 1, 1, 0], [1, 1, 1, 0]), rows([1, 1, 0, 0], [1, 1, 0, 0])  # every seed agrees
    found = between(first, second)
    assert found.p == 1.0  # one image differs
    assert found.value == 0.25


def test_a_handful_of_images_cannot_be_significant():
    found = between(np.ones((3, 4), dtype=bool), np.zeros((3, 4), dtype=bool))
    assert found.p == 2 * 0.5**4
    assert found.value == 1.0


def test_a_clear_difference_is_found():
    found = between(seeds([300, 302, 301], noise=1), seeds([200, 203, 201], noise=2))
    assert found.p < 0.001
    assert 0.15 < found.low < found.value < found.high < 0.35


def test_the_bootstrap_is_reproducible_and_blind_to_the_order_of_images():
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


def test_false_alarms_are_as_rare_as_promised():
    generator = np.random.default_rng(0)
    alarms = 0
    for _ in range(200):
        chance = generator.beta(2, 2, size=300)
        alarms += between(*(generator.random((3, 300)) < chance for _ in range(2))).p < 0.05
    assert alarms <= 0.05 * 200 + 3 * math.sqrt(0.05 * 0.95 * 200)


def test_wilson_is_what_newcombe_builds_on():
    low, high = newcombe(0, 20, 0, 0)  # 20 of 20 against 0 of 20
    assert low == pytest.approx(1 - math.hypot(1 - wilson(20, 20)[0], wilson(0, 20)[1]))
    assert high == 1.0
