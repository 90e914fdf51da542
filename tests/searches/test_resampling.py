"""Weights in logarithms, and resampling schemes whose expectations are exact."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mira_pl.searches.resampling import ancestors, effective, normalised, resample, ssp
from mira_pl.types import Job

SCHEMES = ["multinomial", "systematic", "ssp"]
weights_of = st.lists(st.floats(0.0, 1.0), min_size=1, max_size=12).filter(lambda values: sum(values) > 1e-3)


def children(weights: torch.Tensor, seed: int, scheme: str) -> torch.Tensor:
    uniforms = torch.rand(len(weights), generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return ancestors(weights, uniforms, scheme).bincount(minlength=len(weights))


@settings(deadline=None)
@given(st.lists(st.floats(-50, 50), min_size=1, max_size=8), st.floats(-1e6, 1e6))
def test_weights_do_not_see_a_shift(logs: list[float], shift: float) -> None:
    log_weights = torch.tensor(logs, dtype=torch.float64)[:, None]
    weights = normalised(log_weights)
    assert float(weights.sum()) == pytest.approx(1)
    torch.testing.assert_close(normalised(log_weights + shift), weights, atol=1e-8, rtol=1e-6)


def test_what_is_no_number_weighs_nothing_and_nothing_is_all_alike() -> None:
    logs = torch.tensor([[0.0, -math.inf, math.inf], [math.nan, math.nan, 0.0]])
    assert normalised(logs).tolist() == [[1.0, 0.5, 1.0], [0.0, 0.5, 0.0]]


def test_effective_number() -> None:
    assert effective(torch.tensor([[0.25, 1.0], [0.25, 0.0], [0.25, 0.0], [0.25, 0.0]])).tolist() == [4.0, 1.0]


@settings(deadline=None)
@given(weights_of, st.integers(0, 10_000))
def test_ssp_rounds_the_expected_number_up_or_down(values: list[float], seed: int) -> None:
    weights = torch.tensor(values, dtype=torch.float64)
    weights = weights / weights.sum()
    found, expected = children(weights, seed, "ssp"), len(weights) * weights
    assert int(found.sum()) == len(weights)
    assert ((found - expected).abs() < 1 + 1e-6).all()


@pytest.mark.parametrize("scheme", SCHEMES)
def test_the_expected_number_of_children_is_exact(scheme: str) -> None:
    weights = torch.tensor([0.05, 0.4, 0.15, 0.3, 0.1], dtype=torch.float64)
    runs = 4000
    mean = torch.stack([children(weights, seed, scheme) for seed in range(runs)]).double().mean(dim=0)
    torch.testing.assert_close(mean, 5 * weights, atol=0.06, rtol=0)  # std of a count is below 1.1: 3.5 sigma


def test_systematic_and_ssp_spread_less_than_multinomial() -> None:
    weights = torch.tensor([0.05, 0.4, 0.15, 0.3, 0.1], dtype=torch.float64)
    spread = {
        scheme: torch.stack([children(weights, seed, scheme) for seed in range(500)]).double().var(dim=0).sum()
        for scheme in SCHEMES
    }
    assert spread["ssp"] < 0.5 * spread["multinomial"] and spread["systematic"] < 0.5 * spread["multinomial"]


def test_ssp_of_whole_numbers_is_no_lottery() -> None:
    assert ssp(torch.tensor([0.5, 0.0, 0.5, 0.0]), torch.rand(4)).tolist() == [2, 0, 2, 0]
    assert ssp(torch.tensor([1.0]), torch.rand(1)).tolist() == [1]


def test_jobs_are_resampled_each_for_itself() -> None:
    jobs = [Job("a", 1, "a"), Job("b", 2, "b"), Job("c", 3, "c")]
    weights = torch.tensor([[0.0, 0.0, 0.0], [1.0, 1.0, 1.0]])
    found = resample(weights, torch.tensor([True, False, True]), "multinomial", jobs, 0, 5)
    assert found.tolist() == [[1, 0, 1], [1, 1, 1]]
    even = torch.full((6, 3), 1 / 6)
    together = resample(even, torch.tensor([True] * 3), "multinomial", jobs, 0, 5)
    alone = resample(even[:, :1], torch.tensor([True]), "multinomial", jobs[:1], 0, 5)
    assert torch.equal(together[:, :1], alone)
    assert not torch.equal(together, resample(even, torch.tensor([True] * 3), "multinomial", jobs, 0, 6))
