"""Means and intervals over members: one trained run is one observation."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, Real
from scipy import special, stats

Values = Real[np.ndarray, " members"] | Sequence[float]


@dataclass(frozen=True)
class Interval:
    """A mean over members and the bounds of its confidence interval.

    Attributes:
        mean: The sample mean, in the units of the values.
        low: The lower bound; nan when one member leaves the spread between runs unknown.
        high: The upper bound; nan in the same case.
        n: How many members the mean is over.
    """

    mean: float
    low: float
    high: float
    n: int

    @property
    def known(self) -> bool:
        """Whether the members allow bounds at all: False for a single member."""
        return math.isfinite(self.low) and math.isfinite(self.high)


def mean_interval(values: Values, level: float = 0.95) -> Interval:
    """Give the mean over members and Student's t interval for it.

    The bounds are `mean -+ t(1/2 + level/2, n - 1) * s / sqrt(n)`, with `s` the sample standard
    deviation (ddof 1). The unit is the trained run: test images are shared by all members, so they
    do not add to `n`, and one member has a mean and nan bounds.

    Args:
        values: One finite number per member, shape [members], in any unit.
        level: The coverage, strictly between 0 and 1.

    Returns:
        The mean and its bounds, in the unit of `values`.

    Raises:
        ValueError: No values, values that are not one-dimensional or not finite, or a level
            outside (0, 1).

    References:
        Student, "The probable error of a mean", Biometrika 6 (1908), 1-25.
    """
    if not 0.0 < level < 1.0:
        raise ValueError(f"level must lie strictly between 0 and 1, not {level}")
    sample = _sample(values)
    if sample.size == 1:
        return _without_bounds(sample)
    quantile = float(stats.t.ppf(0.5 + level / 2.0, sample.size - 1))
    return _around_mean(sample, quantile * float(sample.std(ddof=1)))


def normal_interval_published(values: Values) -> Interval:
    """Give the mean and the 95% interval as the released MNIST script computes it.

    The bounds are `mean -+ 1.96 * s / sqrt(n)`, with `s` the population standard deviation
    (ddof 0). Both choices narrow the interval: its width is 0.983 of Student's at n = 100, and only
    0.775 at n = 8. For one member that formula has width zero; here the bounds are nan, as in
    `mean_interval`.

    Args:
        values: One finite number per member, shape [members], in any unit.

    Returns:
        The mean and its bounds, in the unit of `values`.

    Raises:
        ValueError: No values, or values that are not one-dimensional or not finite.

    References:
        Cloud et al., "Subliminal Learning" (arXiv 2507.14805), `scripts/run_mnist_experiment.py`
        of the released code.
    """
    sample = _sample(values)
    if sample.size == 1:
        return _without_bounds(sample)
    return _around_mean(sample, 1.96 * float(sample.std(ddof=0)))


def proportion_interval(successes: int, trials: int, level: float = 0.95) -> Interval:
    """Give a proportion and Wilson's score interval for it.

    With `z` the normal quantile, the bounds are those proportions that lie just `z` of their own
    standard errors from the one observed. Unlike `p -+ z * s` they stay within 0 and 1 and have a
    width also where all trials or none succeed.

    Args:
        successes: How many of the trials succeeded.
        trials: How many independent trials there were, at least one.
        level: The coverage, strictly between 0 and 1.

    Returns:
        The proportion and its bounds; `n` is the number of trials.

    Raises:
        ValueError: No trials, or more or fewer successes than there can be.

    References:
        Wilson, "Probable inference, the law of succession, and statistical inference", Journal of
        the American Statistical Association 22 (1927), 209-212.
    """
    if not 0 <= successes <= trials or trials < 1:
        raise ValueError(f"{successes} of {trials} is no proportion")
    bounds = stats.binomtest(successes, trials).proportion_ci(level, method="wilson")
    return Interval(successes / trials, float(bounds.low), float(bounds.high), trials)


def probability_interval(values: Values, level: float = 0.95) -> Interval:
    """Give the mean of probabilities and Student's t interval for it on the logit scale.

    With `m` the mean and `h` the half width of `mean_interval`, the bounds are those of
    `logit(m) -+ h / (m (1 - m))`, taken back to probabilities: the delta method carries the
    standard error to the logit scale. The bounds lie around `m` and never leave [0, 1]; where `h`
    is small they are those of `mean_interval`.

    Single values may be exactly 0 or 1, since only the mean's logit is taken. Where all of them
    are 0, or all are 1, that logit is infinite and the spread is nil: the bounds are nan, for
    such values do not say how near to 0 or 1 the probability is.

    Args:
        values: One probability per member, shape [members].
        level: The coverage, strictly between 0 and 1.

    Returns:
        The mean, the same as that of `mean_interval`, and its bounds; nan bounds for one member.

    Raises:
        ValueError: A value outside [0, 1], or whatever `mean_interval` refuses.

    References:
        Dean and Pagano, "Evaluating confidence interval methods for binomial proportions in
        clustered surveys", Journal of Survey Statistics and Methodology 3 (2015), 484-503. It is
        the method `xlogit` of `svyciprop` in Lumley's R package survey.
    """
    plain = mean_interval(values, level)
    sample = _sample(values)
    if sample.min() < 0.0 or sample.max() > 1.0:
        raise ValueError(f"probabilities lie in [0, 1], not in [{sample.min()}, {sample.max()}]")
    if not plain.known:
        return plain
    if plain.mean in (0.0, 1.0):
        return _without_bounds(sample)
    middle = float(special.logit(plain.mean))
    reach = (plain.high - plain.mean) / (plain.mean * (1.0 - plain.mean))
    low, high = special.expit([middle - reach, middle + reach])
    return Interval(plain.mean, float(low), float(high), plain.n)


def paired_difference(a: Values, b: Values, level: float = 0.95) -> Interval:
    """Give the mean of `a - b` member by member and Student's t interval for it.

    Two arms of one member share its teacher and its noise, so their accuracies vary together;
    differencing within the member removes that shared part, which two separate intervals keep.

    Args:
        a: One finite number per member, shape [members].
        b: The same members in the same order, shape [members], in the unit of `a`.
        level: The coverage, strictly between 0 and 1.

    Returns:
        The mean difference and its bounds, in the unit of `a`; nan bounds for one member.

    Raises:
        ValueError: Different lengths, or whatever `mean_interval` refuses.

    References:
        Student, "The probable error of a mean", Biometrika 6 (1908), 1-25, whose first
        illustration is paired: hours of sleep under two drugs.
    """
    first, second = _sample(a), _sample(b)
    if first.size != second.size:
        raise ValueError(f"pairs need equal lengths, not {first.size} and {second.size}")
    return mean_interval(first - second, level)


def sign_flip_test(differences: Values) -> float | None:
    """Give the two-sided p value of paired differences under exchange of each pair.

    If the two arms of a pair were alike, each difference would be as likely with the other sign.
    The p value is the share of all `2^n` choices of signs whose mean is at least as far from zero
    as the observed one; above 16 pairs, of 65,536 choices drawn with a fixed seed and the observed
    one. The least value that n pairs can give is `2^(1-n)`.

    Args:
        differences: One number per member, shape [members]; members are independent.

    Returns:
        The p value, or None for one member: a single run has none.

    Raises:
        ValueError: No values, or values that are not one-dimensional or not finite.

    References:
        Fisher, "The Design of Experiments" (1935), section 21.
    """
    sample = _sample(differences)
    n = sample.size
    if n == 1:
        return None
    if n <= 16:
        signs = 1.0 - 2.0 * (np.arange(2**n)[:, None] >> np.arange(n) & 1)
    else:
        drawn = np.random.default_rng(0).choice([-1.0, 1.0], (2**16, n))
        signs = np.concatenate([np.ones((1, n)), drawn])
    means = np.abs(signs @ sample)
    return float(np.mean(means >= abs(sample.sum()) * (1.0 - 1e-12)))


def paired_p_value(a: Values, b: Values) -> float:
    """Give the two-sided p-value of Student's paired t test that `a - b` has mean zero.

    Args:
        a: One finite number per member, shape [members].
        b: The same members in the same order.

    Returns:
        The p-value; 1 where all differences are zero, and 0 where all are the same other number.

    Raises:
        ValueError: Fewer than two members (one run says nothing of the spread between runs), or
            what `paired_difference` refuses.
    """
    difference = paired_difference(a, b)
    if difference.n < 2:
        raise ValueError("one member has no p-value")
    spread = float((_sample(a) - _sample(b)).std(ddof=1))
    if not spread:
        return float(not difference.mean)
    t = abs(difference.mean) * math.sqrt(difference.n) / spread
    return float(2.0 * stats.t.sf(t, difference.n - 1))


def holm(p_values: Sequence[float]) -> list[float]:
    """Correct p-values for their number, so that any false alarm at all is as rare as the level.

    In ascending order the i-th of m (from 0) is multiplied by `m - i`, and is at least as large
    as the one before it.

    References:
        Holm, "A simple sequentially rejective multiple test procedure", Scandinavian Journal of
        Statistics 6 (1979), 65-70.
    """
    corrected, largest = [0.0] * len(p_values), 0.0
    for rank, place in enumerate(sorted(range(len(p_values)), key=lambda i: p_values[i])):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[place]))
        corrected[place] = largest
    return corrected


def members_needed(
    difference: float, spread: float, power: float = 0.8, level: float = 0.05
) -> int:
    """Give how many members a paired t test needs to find a difference.

    Args:
        difference: The mean difference to be found, positive.
        spread: The standard deviation between members of the difference, in the same unit.
        power: The probability to find it.
        level: The two-sided level of the test.

    Returns:
        The smallest number of members, at least 2, from the noncentral t distribution.

    Raises:
        ValueError: A difference or spread that is not positive.
    """
    if difference <= 0 or spread <= 0:
        raise ValueError(f"difference {difference} and spread {spread} must be positive")

    def power_of(n: int) -> float:
        quantile, shift = stats.t.ppf(1 - level / 2, n - 1), difference / spread * math.sqrt(n)
        upper, lower = (stats.nct.cdf(q, n - 1, shift) for q in (quantile, -quantile))
        return float(1 - upper + lower)

    low, high = 1, 2
    while power_of(high) < power:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if power_of(middle) >= power else (middle, high)
    return high


def _sample(values: Values) -> Float64[np.ndarray, " members"]:
    sample = np.asarray(values, dtype=np.float64)
    if sample.ndim != 1 or sample.size == 0:
        raise ValueError(f"values must be one number per member, not of shape {sample.shape}")
    if not np.isfinite(sample).all():
        # A mean over the finite rest would hide a member that broke.
        raise ValueError(f"values of members {np.flatnonzero(~np.isfinite(sample))} are not finite")
    return sample


def _without_bounds(sample: Float64[np.ndarray, " members"]) -> Interval:
    return Interval(float(sample.mean()), math.nan, math.nan, sample.size)


def _around_mean(sample: Float64[np.ndarray, " members"], spread: float) -> Interval:
    mean, half_width = float(sample.mean()), spread / math.sqrt(sample.size)
    return Interval(mean, mean - half_width, mean + half_width, sample.size)
