import math
import statistics as oracle

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest
from scipy.stats import t as t_distribution

from fatbench.statistics import deviation, mean, student, wilson

SECONDS = st.lists(st.floats(0, 1e6), min_size=1, max_size=20)


@given(st.integers(1, 20_000), st.data(), st.sampled_from([0.5, 0.9, 0.95, 0.99]))
def test_wilson_is_scipys(total, data, confidence):
    correct = data.draw(st.integers(0, total))
    expected = binomtest(correct, total).proportion_ci(confidence, method="wilson")
    assert wilson(correct, total, confidence) == pytest.approx((expected.low, expected.high), abs=1e-12)


def test_wilson_of_a_mean_count_lies_between_its_neighbours():
    assert wilson(10, 200) < wilson(10.5, 200) < wilson(11, 200)


def test_wilson_is_exact_at_the_ends():
    assert wilson(0, 200)[0] == 0.0
    assert wilson(200, 200)[1] == 1.0


@pytest.mark.parametrize(("correct", "total"), [(1, 0), (-1, 10), (11, 10), (math.nan, 10)])
def test_wilson_refuses_the_impossible(correct, total):
    with pytest.raises(ValueError, match="no interval"):
        wilson(correct, total)


@given(SECONDS)
def test_mean_and_deviation_are_the_standard_librarys(values):
    assert mean(values) == pytest.approx(oracle.fmean(values), rel=1e-12, abs=1e-12)
    if len(values) > 1:
        assert deviation(values) == pytest.approx(oracle.stdev(values), rel=1e-9, abs=1e-6)


def test_equal_values_have_exactly_no_spread():
    assert mean([0.1] * 3) == 0.1
    assert deviation([0.1] * 3) == 0.0


def test_one_value_has_no_deviation():
    assert deviation([3.0]) is None


def test_huge_values_stay_finite():
    assert mean([1e308, 1.7e308]) == pytest.approx(1.35e308)
    assert math.isfinite(deviation([1e308, 1.7e308]))


def test_the_t_interval_by_hand():
    low, high = student([0.40, 0.50, 0.60])  # mean 0.5, deviation 0.1, t(0.975, 2) = 4.3027 from any table
    assert (low, high) == pytest.approx((0.5 - 4.3027 * 0.1 / 3**0.5, 0.5 + 4.3027 * 0.1 / 3**0.5), abs=1e-5)


@pytest.mark.parametrize("confidence", [0.5, 0.9, 0.95, 0.999])
@pytest.mark.parametrize("seeds", [2, 3, 4, 5, 10, 11, 100, 1001])
def test_the_t_interval_is_scipys(seeds, confidence):
    values = [float(k % 7) for k in range(seeds)]
    error = oracle.stdev(values) / seeds**0.5
    expected = t_distribution.interval(confidence, seeds - 1, oracle.fmean(values), error)
    assert student(values, confidence) == pytest.approx(expected, rel=1e-9)


def test_equal_seeds_have_a_point_for_an_interval():
    assert student([0.1] * 3) == (0.1, 0.1)


def test_one_value_has_no_t_interval():
    with pytest.raises(ValueError, match="no t-interval"):
        student([0.5])
