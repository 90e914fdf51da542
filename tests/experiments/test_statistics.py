"""Intervals and AUROC where the answer is known."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mira_pl.experiments.statistics import auroc, bootstrap


@given(st.lists(st.tuples(st.integers(-3, 3), st.booleans()), min_size=2, max_size=30))
def test_auroc_is_the_share_of_ordered_pairs(rows):
    score, positive = np.array([r[0] for r in rows], float), np.array([r[1] for r in rows])
    pairs = [1.0 if a > b else 0.5 if a == b else 0.0 for a in score[positive] for b in score[~positive]]
    if pairs:
        assert auroc(score, positive) == pytest.approx(sum(pairs) / len(pairs))
        assert auroc(-score, positive) == pytest.approx(1 - auroc(score, positive))
    else:
        assert np.isnan(auroc(score, positive))


def test_bootstrap_of_a_mean_has_the_width_of_its_standard_error():
    values = np.random.default_rng(0).normal(size=400)
    value, low, high = bootstrap(lambda rows: float(values[rows].mean()), [str(n) for n in range(400)])
    assert value == pytest.approx(values.mean())
    assert high - low == pytest.approx(2 * 1.96 * values.std() / 20, rel=0.1)


def test_bootstrap_resamples_whole_prompts():
    """Ten equal seeds of each prompt carry no more than one: the interval does not shrink."""
    few = np.random.default_rng(1).normal(size=40)
    many, groups = np.repeat(few, 10), np.repeat(np.arange(40), 10).astype(str)
    narrow = bootstrap(lambda rows: float(few[rows].mean()), [str(n) for n in range(40)])
    wide = bootstrap(lambda rows: float(many[rows].mean()), groups.tolist())
    assert wide[2] - wide[1] == pytest.approx(narrow[2] - narrow[1], rel=0.15)
