"""ReNO's penalty is the negative log density of a norm, and its update is that of SGD with Nesterov's momentum."""

import pytest
import torch
from scipy.stats import chi

from mira_pl.backbones.analytic import MixtureBackbone
from mira_pl.noise import draw
from mira_pl.objectives import DNO, ReNO
from mira_pl.objectives.reno import norm_penalty
from mira_pl.problem import Problem
from mira_pl.rewards.pixels import Brightness
from mira_pl.types import Job

JOBS = [Job("a", 1, "a"), Job("b", 2, "b")]


def at_norm(size: int, norm: float) -> torch.Tensor:
    return torch.full((1, size, 1, 1), norm / size**0.5, dtype=torch.float64)


def problem() -> Problem:
    backbone = MixtureBackbone(torch.zeros(1, 4, 4, 4), torch.ones(1), torch.ones(1), steps=1)
    return Problem.of(backbone, Brightness(), JOBS)


@pytest.mark.parametrize(("size", "norm", "least"), [(16_384, 127.9961, -712.988), (65_536, 255.998, None)])
def test_least_at_the_root_of_d_minus_1(size: int, norm: float, least: float | None) -> None:
    best = (size - 1) ** 0.5
    assert best == pytest.approx(norm, abs=1e-4)
    value = float(norm_penalty(at_norm(size, best)))
    assert all(float(norm_penalty(at_norm(size, best * factor))) > value for factor in (0.999, 1.001))
    if least is not None:
        assert 0.01 * value == pytest.approx(least, abs=1e-3)


@pytest.mark.parametrize(
    ("size", "factor", "excess"),
    [(16_384, 1.01, 0.0163), (65_536, 1.01, 0.0653), (16_384, 1.05, 0.403), (65_536, 1.05, 1.612)],
)
def test_excess_over_the_least(size: int, factor: float, excess: float) -> None:
    best = (size - 1) ** 0.5
    values = [float(norm_penalty(at_norm(size, best * part))) for part in (1.0, factor)]
    assert 0.01 * (values[1] - values[0]) == pytest.approx(excess, rel=5e-3)


def test_differences_are_those_of_the_chi_density() -> None:
    norms = [3.0, 5.0, 9.0]
    ours = [float(norm_penalty(at_norm(20, norm))) for norm in norms]
    theirs = [-chi.logpdf(norm, 20) for norm in norms]
    assert [value - ours[0] for value in ours] == pytest.approx([value - theirs[0] for value in theirs])


def test_loss_is_the_reward_and_the_penalty_of_x_t() -> None:
    noise = draw(JOBS, problem().backbone.noise_shape)
    penalised, plain = ReNO(0.5).loss(problem(), noise, None, 0), DNO().loss(problem(), noise, None, 0)
    torch.testing.assert_close(penalised.value, plain.value + 0.5 * norm_penalty(noise[:, -1]))
    assert torch.equal(ReNO(0.0).loss(problem(), noise, None, 0).value, plain.value)


def test_a_negative_weight_is_refused() -> None:
    with pytest.raises(ValueError, match="norm_weight must be at least 0, got -1"):
        ReNO(-1.0)
