"""Intervals: bootstrap over prompts, and the area under the ROC curve. Pure functions of numpy arrays."""

from collections.abc import Callable, Sequence

import numpy as np

RESAMPLES = 2000


def bootstrap(
    statistic: Callable[[np.ndarray], float], groups: Sequence[str], seed: int = 0, resamples: int = RESAMPLES
) -> tuple[float, float, float]:
    """Value and 95 % interval of a statistic of rows, resampling whole groups (prompts), so seeds stay together.

    Args:
        statistic: takes an array of row indices, gives a number; NaN resamples are left out.
        groups: the group of every row.
        seed: of the resampling.
        resamples: number of bootstrap samples.
    """
    names = np.unique(np.asarray(groups))
    rows = {name: np.flatnonzero(np.asarray(groups) == name) for name in names}
    random = np.random.default_rng(seed)
    values = [
        statistic(np.concatenate([rows[name] for name in random.choice(names, len(names))])) for _ in range(resamples)
    ]
    low, high = np.nanpercentile(values, [2.5, 97.5])
    return statistic(np.arange(len(groups))), float(low), float(high)


def auroc(score: np.ndarray, positive: np.ndarray) -> float:
    """Probability that a positive has a higher score than a negative, ties counted half; NaN without both kinds."""
    high, low = score[positive.astype(bool)], score[~positive.astype(bool)]
    if not len(high) or not len(low):
        return float("nan")
    difference = high[:, None] - low[None]
    return float((difference > 0).mean() + 0.5 * (difference == 0).mean())
