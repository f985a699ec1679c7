import math

import numpy as np
import pytest
from numpy.testing import assert_allclose

from subliminal_jax.stats import (
    holm,
    mean_interval,
    members_needed,
    normal_interval_published,
    paired_difference,
    paired_p_value,
    probability_interval,
    proportion_interval,
    sign_flip_test,
)

# Student's t with two degrees of freedom has a closed quantile, (2p - 1) / sqrt(2p (1 - p)).
T_2 = 0.95 / math.sqrt(2 * 0.975 * 0.025)
T_2_90 = 0.90 / math.sqrt(2 * 0.95 * 0.05)


def test_mean_interval_of_three_members_by_hand():
    # deviations -1, 0, 1: s**2 = 2 / (3 - 1) = 1
    interval = mean_interval([1.0, 2.0, 3.0])
    assert interval.mean == 2.0
    assert interval.low == pytest.approx(2.0 - T_2 / math.sqrt(3), rel=1e-9)
    assert interval.high == pytest.approx(2.0 + T_2 / math.sqrt(3), rel=1e-9)
    assert interval.n == 3
    assert interval.known


def test_a_lower_level_gives_the_narrower_interval_of_the_table():
    interval = mean_interval([1.0, 2.0, 3.0], level=0.9)
    assert interval.high - interval.mean == pytest.approx(T_2_90 / math.sqrt(3), rel=1e-9)


def test_mean_interval_covers_the_mean_as_often_as_it_says():
    rng = np.random.default_rng(0)
    intervals = [mean_interval(rng.normal(size=4)) for _ in range(2000)]
    covered = np.mean([one.low <= 0.0 <= one.high for one in intervals])
    # three standard errors of a proportion over 2000 trials; a normal interval covers 0.86
    assert covered == pytest.approx(0.95, abs=3 * math.sqrt(0.95 * 0.05 / 2000))


def test_published_interval_divides_by_n_and_takes_the_normal_quantile():
    # deviations -3, -1, 1, 3: population variance 20 / 4 = 5
    interval = normal_interval_published([1.0, 3.0, 5.0, 7.0])
    assert interval.mean == 4.0
    assert interval.high == pytest.approx(4.0 + 1.96 * math.sqrt(5 / 4), rel=1e-12)
    assert interval.low == pytest.approx(4.0 - 1.96 * math.sqrt(5 / 4), rel=1e-12)


def test_paired_difference_keeps_only_what_varies_within_a_member():
    # differences 1, 2, 3, while the members themselves lie far apart
    interval = paired_difference([11.0, 102.0, 1003.0], [10.0, 100.0, 1000.0])
    assert interval.mean == pytest.approx(2.0)
    assert interval.high - interval.low == pytest.approx(2 * T_2 / math.sqrt(3))


def test_paired_difference_passes_its_level_on():
    interval = paired_difference([1.0, 2.0, 3.0], [0.0, 0.0, 0.0], level=0.9)
    assert interval.high - interval.mean == pytest.approx(T_2_90 / math.sqrt(3), rel=1e-9)


@pytest.mark.parametrize("method", [mean_interval, normal_interval_published])
def test_one_member_has_a_mean_and_no_bounds(method):
    interval = method([0.5])
    assert (interval.mean, interval.n) == (0.5, 1)
    assert math.isnan(interval.low)
    assert math.isnan(interval.high)
    assert not interval.known


@pytest.mark.parametrize("method", [mean_interval, normal_interval_published])
@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_member_that_broke_is_refused_by_its_number(method, bad):
    with pytest.raises(ValueError, match=r"members \[1\] are not finite"):
        method([0.5, bad, 0.7])


@pytest.mark.parametrize("method", [mean_interval, normal_interval_published])
def test_no_members_are_refused(method):
    with pytest.raises(ValueError, match="one number per member"):
        method([])


def test_pairs_of_different_lengths_are_refused_not_broadcast():
    with pytest.raises(ValueError, match="equal lengths, not 3 and 1"):
        paired_difference([1.0, 2.0, 3.0], [1.0])


@pytest.mark.parametrize("level", [0.0, 1.0, 95.0, math.nan])
def test_a_level_that_is_no_coverage_is_refused(level):
    with pytest.raises(ValueError, match="level must lie"):
        mean_interval([1.0, 2.0], level=level)


def test_single_precision_values_are_averaged_in_double():
    values = np.full(3, 0.1, dtype=np.float32)
    assert mean_interval(values).mean == pytest.approx(float(np.float32(0.1)), rel=1e-15)


def test_a_proportion_has_wilsons_interval():
    """8 of 10 by the formula: (p + z^2/2n -+ z sqrt(p q / n + z^2 / 4n^2)) / (1 + z^2/n)."""
    found = proportion_interval(8, 10)
    assert (found.mean, found.n) == (0.8, 10)
    assert_allclose([found.low, found.high], [0.490162, 0.943318], atol=1e-6)
    nothing = proportion_interval(0, 1800)
    assert nothing.mean == nothing.low == 0
    assert_allclose(nothing.high, 1.959964**2 / (1800 + 1.959964**2), rtol=1e-5)


@pytest.mark.parametrize(("successes", "trials"), [(0, 0), (-1, 3), (4, 3)])
def test_what_is_no_proportion_is_refused(successes, trials):
    with pytest.raises(ValueError, match="is no proportion"):
        proportion_interval(successes, trials)


def test_sign_flips_are_counted_exactly():
    assert sign_flip_test([1.0, 2.0, 3.0]) == 2 / 8
    # The eight sums are +-7, +-5, +-3 and +-1; the observed one is 3.
    assert sign_flip_test([1.0, -2.0, 4.0]) == 6 / 8
    assert sign_flip_test([0.1] * 6) == 2 / 64
    assert sign_flip_test([0.0, 0.0]) == 1.0


def test_one_run_has_no_p_value():
    assert sign_flip_test([0.7]) is None


def test_many_sign_flips_are_drawn_and_never_give_zero():
    assert sign_flip_test([1.0] * 40) == pytest.approx(1 / (2**16 + 1))
    rng = np.random.default_rng(3)
    values = rng.normal(0.3, 1.0, 18)
    exact = np.mean(np.abs((1 - 2 * (np.arange(2**18)[:, None] >> np.arange(18) & 1)) @ values)
                    >= abs(values.sum()) - 1e-12)  # fmt: skip
    assert sign_flip_test(values) == pytest.approx(exact, abs=0.006)


def test_paired_p_value_by_hand():
    # t = 2 sqrt(3); with two degrees of freedom p = 1 - t / sqrt(2 + t^2)
    t = 2 * math.sqrt(3)
    assert_allclose(paired_p_value([2.0, 4.0, 6.0], [1.0, 2.0, 3.0]), 1 - t / math.sqrt(2 + t**2))
    assert paired_p_value([1.0, 2.0], [1.0, 2.0]) == 1
    assert paired_p_value([1.0, 2.0], [0.5, 1.5]) == 0
    with pytest.raises(ValueError, match="one member has no p-value"):
        paired_p_value([1.0], [2.0])


def test_holm_by_hand():
    assert_allclose(holm([0.01, 0.04, 0.03, 0.005]), [0.03, 0.06, 0.06, 0.02])
    assert_allclose(holm([0.6, 0.9]), [1.0, 1.0])
    assert holm([]) == []


def test_members_needed_as_in_the_tables():
    """Cohen's tables for the paired t test at 5% and 80%: 199 at d = .2, 34 at .5, 15 at .8."""
    assert [members_needed(d, 1.0) for d in (0.2, 0.5, 0.8)] == [199, 34, 15]
    assert members_needed(0.1, 0.2) == 34
    assert members_needed(50.0, 1.0) == 2
    with pytest.raises(ValueError, match="must be positive"):
        members_needed(0.0, 1.0)


def test_probability_interval_of_three_members_by_hand():
    # mean 1/2, logit 0, m (1 - m) = 1/4; deviations -1/4, 0, 1/4: s = 1/4
    interval = probability_interval([0.25, 0.5, 0.75])
    reach = T_2 * 0.25 / math.sqrt(3) / 0.25
    assert interval.mean == 0.5
    assert interval.high == pytest.approx(1 / (1 + math.exp(-reach)), rel=1e-9)
    assert interval.low == pytest.approx(1 - interval.high, rel=1e-9)
    assert interval.n == 3


@pytest.mark.parametrize(
    "values", [[0.38, 0.9999], [1e-9, 0.5], [0.0, 0.4, 1.0], [1.0, 1.0, 0.99], [0.0, 1e-6]]
)
def test_a_probability_s_interval_lies_around_its_mean_and_within_0_and_1(values):
    interval = probability_interval(values)
    assert interval.mean == mean_interval(values).mean
    assert 0 <= interval.low < interval.mean < interval.high <= 1
    assert interval.known


def test_of_a_small_spread_both_intervals_are_the_same():
    values = [0.3, 0.3001, 0.2999]
    assert_allclose(
        [probability_interval(values).low, probability_interval(values).high],
        [mean_interval(values).low, mean_interval(values).high],
        rtol=1e-6,
    )


@pytest.mark.parametrize("values", [[0.0, 0.0, 0.0], [1.0, 1.0], [0.7]])
def test_where_nothing_is_known_of_the_spread_there_are_no_bounds(values):
    interval = probability_interval(values)
    assert interval.mean == values[0]
    assert not interval.known


@pytest.mark.parametrize("values", [[-0.1, 0.5], [0.5, 1.1], [], [math.nan, 0.5]])
def test_what_is_no_probability_is_refused(values):
    with pytest.raises(ValueError, match=r"probabilities lie in|values"):
        probability_interval(values)


def test_probability_interval_covers_the_mean_about_as_often_as_it_says():
    rng = np.random.default_rng(1)
    intervals = [probability_interval(rng.beta(6, 2, size=6)) for _ in range(2000)]
    covered = np.mean([one.low <= 0.75 <= one.high for one in intervals])
    assert 0.93 < covered < 0.98
