"""MIRA's loss: eq. 4 to the letter, its other readings, and its limit beta = 0."""

import pytest
import torch
from torch import Tensor

from mira_pl.backbones.analytic import MixtureBackbone
from mira_pl.drift import penalise
from mira_pl.noise import draw
from mira_pl.objectives import DNO, MIRA, Objective
from mira_pl.problem import Problem
from mira_pl.rewards.pixels import Brightness
from mira_pl.trajectory import Engine, Trajectory
from mira_pl.types import Job, Noise

JOBS = [Job("a", 1, "a"), Job("b", 2, "b")]
FORMS = ["signed", "reversed", "abs", "squared", "hinge"]
DRIFTS = ["energy", "score_difference", "elbo"]


def problem(jobs: list[Job] = JOBS, engine: str = "walk") -> Problem:
    means = torch.randn(2, 3, 2, 2, generator=torch.Generator().manual_seed(0))
    backbone = MixtureBackbone(means, torch.tensor([0.5, 0.9]), torch.tensor([0.4, 0.6]), steps=4)
    return Problem.of(backbone, Brightness(), jobs, Engine(engine))


def noise_of(jobs: list[Job] = JOBS, shift: float = 0.0) -> Noise:
    return draw(jobs, problem().backbone.noise_shape) + shift


def anchor_of(jobs: list[Job] = JOBS, objective: Objective | None = None) -> Trajectory:
    return (objective or MIRA()).loss(problem(jobs), noise_of(jobs), None, 0).outcome.trajectory.detach()


def solved(
    objective: Objective, noise: Noise, anchor: Trajectory | None, jobs: list[Job] = JOBS
) -> tuple[Tensor, Tensor]:
    """Loss [b] and its gradient."""
    leaf = noise.clone().requires_grad_()
    loss = objective.loss(problem(jobs), leaf, anchor, 1)
    loss.value.sum().backward()
    return loss.value.detach(), leaf.grad


@pytest.mark.parametrize("drift", DRIFTS)
@pytest.mark.parametrize("started", [False, True])
def test_beta_of_zero_is_dno_without_its_regulariser_bit_for_bit(drift: str, started: bool) -> None:
    anchor = anchor_of() if started else None
    value, slope = solved(MIRA(beta=0.0, drift=drift), noise_of(shift=0.1), anchor)
    plain_value, plain_slope = solved(DNO(gamma=0.0), noise_of(shift=0.1), anchor)
    assert torch.equal(value, plain_value) and torch.equal(slope, plain_slope)


@pytest.mark.parametrize(
    ("form", "moves"), [("signed", True), ("reversed", True), ("abs", False), ("squared", False), ("hinge", False)]
)
def test_first_iteration_has_no_drift_but_a_gradient_where_the_form_has_a_slope_at_zero(form: str, moves: bool) -> None:
    value, slope = solved(MIRA(beta=1.0, form=form), noise_of(), None)
    plain_value, plain_slope = solved(DNO(), noise_of(), None)
    assert torch.equal(value, plain_value)
    assert torch.equal(slope, plain_slope) is not moves


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(("score", "weights"), [("network", "marginal"), ("network", "ddim"), ("transition", "ddim")])
def test_loss_is_eq_4(form: str, score: str, weights: str) -> None:
    objective = MIRA(beta=0.3, form=form, score=score, weights=weights)
    anchor = anchor_of(objective=objective)
    loss = objective.loss(problem(), noise_of(shift=0.2), anchor, 1)
    now = loss.outcome.trajectory
    assert (anchor.energies[0] != now.energies[0]).all()
    expected = -now.images.mean(dim=(1, 2, 3)) + 0.3 * penalise(anchor.energies[0] - now.energies[0], form)
    torch.testing.assert_close(loss.value, expected)


def test_signed_and_reversed_pull_apart() -> None:
    anchor, noise = anchor_of(), noise_of(shift=0.2)
    plain = solved(DNO(), noise, anchor)[1]
    signed, reverse = (solved(MIRA(form=form), noise, anchor)[1] - plain for form in ("signed", "reversed"))
    torch.testing.assert_close(signed, -reverse)
    assert signed.abs().max() > 0.01


def test_score_difference_compares_the_two_paths() -> None:
    anchor = anchor_of()
    loss = MIRA(beta=0.5, drift="score_difference").loss(problem(), noise_of(shift=0.2), anchor, 1)
    torch.testing.assert_close(loss.value, -loss.outcome.reward + 0.5 * loss.outcome.trajectory.energies[1])
    assert torch.equal(
        solved(MIRA(drift="score_difference"), noise_of(), anchor)[0], solved(DNO(), noise_of(), anchor)[0]
    )


def test_elbo_is_the_models_own_loss_of_the_image() -> None:
    """Or its rise over the starting image's: a constant apart, which moves no gradient."""
    losses = [
        MIRA(beta=0.5, drift="elbo", elbo_pairs=4).loss(problem(), noise_of(shift=s), anchor_of(), 1)
        for s in (0.1, 0.2)
    ]
    own = [problem().denoising_loss(loss.outcome.trajectory.latents, 4) for loss in losses]
    penalties = [loss.value + loss.outcome.reward for loss in losses]
    torch.testing.assert_close(penalties[1] - penalties[0], 0.5 * (own[1] - own[0]), atol=1e-5, rtol=1e-4)
    assert not torch.equal(solved(MIRA(drift="elbo"), noise_of(), None)[1], solved(DNO(), noise_of(), None)[1])


@pytest.mark.parametrize("drift", DRIFTS)
def test_batch_equals_singles(drift: str) -> None:
    objective = MIRA(drift=drift)
    value, slope = solved(objective, noise_of(shift=0.2), anchor_of())
    for index, job in enumerate(JOBS):
        single_value, single_slope = solved(objective, noise_of([job], shift=0.2), anchor_of([job]), [job])
        torch.testing.assert_close(value[index], single_value[0])
        torch.testing.assert_close(slope[index], single_slope[0])


def test_the_anchor_is_kept_with_its_predictions_and_only_once() -> None:
    first = MIRA().loss(problem(), noise_of(), None, 0).outcome.trajectory
    assert first.eps.shape == (4, 2, 3, 2, 2) and first.energies.shape == (1, 2)
    second = MIRA().loss(problem(), noise_of(), first.detach(), 1).outcome.trajectory
    assert second.eps is None and second.energies.shape == (2, 2)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"beta": -0.1}, r"beta must be at least 0, got -0\.1"),
        ({"elbo_pairs": 0}, "elbo_pairs must be at least 1, got 0"),
    ],
)
def test_impossible_parameters_are_refused(options: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        MIRA(**options)
