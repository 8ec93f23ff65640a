"""Whether a mean of paired differences is more than chance: bootstrap intervals and Wilcoxon's exact test."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

Float = npt.NDArray[np.float64]

#: Resamples of a bootstrap, and the seed that makes its interval the same in every run.
RESAMPLES, SEED = 10_000, 0

#: Resampled values held in memory at a time.
_CHUNK = 4_000_000


def interval(differences: Sequence[float], level: float = 0.95) -> tuple[float, float]:
    """Bootstrap confidence interval of the mean of ``differences``, bias-corrected and accelerated (BCa).

    Efron, "Better bootstrap confidence intervals", 1987. Values that are all equal, or a single one, give an interval
    of no width: such data say nothing of their spread.
    """
    values = np.asarray(differences, dtype=np.float64)
    mean = float(values.mean())
    if np.ptp(values) == 0:
        return mean, mean
    means = _resampled_means(values)
    normal, share = NormalDist(), (np.sum(means < mean) + np.sum(means <= mean)) / (2 * len(means))
    bias, acceleration = normal.inv_cdf(float(np.clip(share, 1e-6, 1 - 1e-6))), _acceleration(values)
    ends = []
    for tail in ((1 - level) / 2, (1 + level) / 2):
        shifted = bias + normal.inv_cdf(tail)
        ends.append(float(np.quantile(means, normal.cdf(bias + shifted / (1 - acceleration * shifted)))))
    return ends[0], ends[1]


def wilcoxon(differences: Sequence[float]) -> float:
    """Two-sided p-value of Wilcoxon's signed-rank test, exact for any number of differences and any ties.

    Differences of zero are left out, as Wilcoxon did; equal sizes share their mean rank, and the distribution is over
    all signs of the ranks that there are. 1 if nothing is left.
    """
    values = np.asarray([value for value in differences if value != 0], dtype=np.float64)
    ranks = _doubled_ranks(np.abs(values))
    total = int(ranks.sum())
    chances = np.zeros(total + 1)  # of every doubled sum of the positive ranks
    chances[0] = 1
    for rank in ranks:
        shifted = np.zeros_like(chances)
        shifted[rank:] = chances[: total + 1 - rank]
        chances = (chances + shifted) / 2
    positive = int(ranks[values > 0].sum())
    tail = chances[: min(positive, total - positive) + 1].sum()
    return min(1.0, 2 * float(tail))


def least_p(differences: Sequence[float]) -> float:
    """The smallest p-value that :func:`wilcoxon` could give for as many differences, all of one sign."""
    return min(1.0, 2.0 ** (1 - sum(value != 0 for value in differences)))


def _resampled_means(values: Float) -> Float:
    generator, count = np.random.default_rng(SEED), len(values)
    rows = max(1, _CHUNK // count)
    parts = [
        values[generator.integers(0, count, (min(rows, RESAMPLES - start), count))].mean(axis=1)
        for start in range(0, RESAMPLES, rows)
    ]
    return np.concatenate(parts)


def _acceleration(values: Float) -> float:
    """From the means that leave out one value each."""
    left = (values.sum() - values) / (len(values) - 1)
    apart = left.mean() - left
    return float((apart**3).sum() / (6 * (apart**2).sum() ** 1.5))


def _doubled_ranks(sizes: Float) -> npt.NDArray[np.int64]:
    """Twice the rank of each size, from 1, equal sizes sharing their mean: whole numbers."""
    order = np.sort(sizes)
    below, upto = np.searchsorted(order, sizes, "left"), np.searchsorted(order, sizes, "right")
    return np.asarray(below + upto + 1, dtype=np.int64)
