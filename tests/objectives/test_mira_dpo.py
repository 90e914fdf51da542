"""MIRA-DPO's loss is eq. 43 on the chain whose energies are known in closed form."""

import math

import pytest
import torch
from torch import Tensor

from mira_pl.backbones.analytic import MixtureBackbone
from mira_pl.objectives import MIRADPO
from mira_pl.problem import Problem
from mira_pl.rewards import BlackBox, Brightness, Darkness, JPEGSize, Reward
from mira_pl.trajectory import Engine, Trajectory
from mira_pl.types import Job, Noise

JOBS = [Job("a", 1, "a"), Job("b", 2, "b")]


def problem(reward: Reward | None = None) -> Problem:
    backbone = MixtureBackbone(torch.zeros(1, 3, 4, 4), torch.ones(1), torch.ones(1), steps=4)
    return Problem.of(backbone, reward or Brightness(), JOBS, Engine("full"))


def pair(shift: float = 0.0) -> Noise:
    return MIRADPO().start(JOBS, problem().backbone.noise_shape) + shift


def anchor() -> Trajectory:
    return MIRADPO().loss(problem(), pair(), None, 0).outcome.trajectory.detach()


def chain(noise: Tensor) -> tuple[Tensor, Tensor]:
    """x_0 and S of data N(0, I) by its own formulas: eps = sqrt(1 - abar) x, so x_prev is linear in x."""
    schedule = problem().backbone.schedule
    x, energy = noise[:, -1], torch.zeros(len(noise))
    for step in range(schedule.steps):
        now, after, sigma = schedule.alpha[step], schedule.alpha_prev[step], schedule.sigmas[step]
        energy = energy + ((1 - now) * x**2).flatten(1).mean(dim=1)
        slope = (now * after).sqrt() + ((1 - after - sigma**2) * (1 - now)).sqrt()
        x = slope * x + sigma * noise[:, schedule.steps - 1 - step]
    return x, energy


@pytest.mark.parametrize(("form", "sign"), [("signed", 1.0), ("reversed", -1.0)])
def test_loss_and_gradient_are_those_of_eq_43(form: str, sign: float) -> None:
    noise = pair(0.2).requires_grad_()
    loss = MIRADPO(beta=0.7, form=form).loss(problem(), noise, anchor(), 1)
    expected = []
    for job in range(2):
        (first, second), starts = noise[job].chunk(2), pair()[job].chunk(2)
        gains, rewards = [], []
        for now, start in zip((first, second), starts, strict=True):
            image, energy = chain(now[None])
            gains.append(chain(start[None])[1][0] - energy[0])
            rewards.append(float(image.detach().mean()))
        winner = 0 if rewards[0] > rewards[1] else 1
        argument = sign * 0.7 * (gains[winner] - gains[1 - winner])
        expected.append(-torch.log(1 / (1 + torch.exp(-argument))))
    torch.testing.assert_close(loss.value, torch.stack(expected), atol=1e-5, rtol=1e-4)
    ours, theirs = (torch.autograd.grad(v.sum(), noise, retain_graph=True)[0] for v in (loss.value, sum(expected)))
    torch.testing.assert_close(ours, theirs, atol=1e-6, rtol=1e-3)


def test_first_iteration_is_a_coin_that_still_pulls() -> None:
    """No drift yet: log 2, and the two signs pull against each other."""
    slopes = []
    for form in ("signed", "reversed"):
        noise = pair().requires_grad_()
        loss = MIRADPO(form=form).loss(problem(), noise, None, 0)
        torch.testing.assert_close(loss.value, torch.full((2,), math.log(2)))
        slopes.append(torch.autograd.grad(loss.value.sum(), noise)[0])
    torch.testing.assert_close(slopes[0], -slopes[1])
    assert slopes[0].abs().max() > 1e-4


def test_signed_descent_lowers_the_winners_energy_and_raises_the_losers() -> None:
    noise = pair().requires_grad_()
    loss = MIRADPO().loss(problem(), noise, None, 0)
    (slope,) = torch.autograd.grad(loss.value.sum(), noise)
    moved = (noise - slope / slope.flatten(1).norm(dim=1).view(-1, 1, 1, 1, 1)).detach()
    rise = MIRADPO().attempt(problem(), moved, None).trajectory.energies[0] - loss.outcome.trajectory.energies[0]
    winner = MIRADPO().answer(loss.outcome.reward)
    assert (rise[winner] < 0).all() and (rise[(winner + 2) % 4] > 0).all()


def test_winner_is_the_image_of_higher_reward_and_swaps_with_the_noises() -> None:
    noise = pair()
    swapped = torch.cat(noise.chunk(2, dim=1)[::-1], dim=1)
    first, second = (MIRADPO().loss(problem(), z, None, 0) for z in (noise, swapped))
    answers = [MIRADPO().answer(loss.outcome.reward) for loss in (first, second)]
    torch.testing.assert_close(first.outcome.reward[answers[0]], second.outcome.reward[answers[1]])
    assert torch.equal((answers[0] + 2) % 4, answers[1])
    assert (first.outcome.reward[answers[0]] > first.outcome.reward[answers[1]]).all()
    dark = MIRADPO().loss(problem(Darkness()), noise, None, 0)
    assert torch.equal(MIRADPO().answer(dark.outcome.reward), answers[1])


def test_a_tie_is_the_seconds() -> None:
    """Algorithm 2: the first noise wins only where its reward is greater."""
    assert MIRADPO().answer(torch.tensor([1.0, 2.0, 1.0, 1.0])).tolist() == [2, 1]


def test_every_noise_drifts_from_its_own_start() -> None:
    loss = MIRADPO().loss(problem(), pair(0.2), anchor(), 1)
    starts, ends = (chain(torch.cat(pair(shift).chunk(2, dim=1)))[1] for shift in (0.0, 0.2))
    torch.testing.assert_close(anchor().energies[0], starts)
    torch.testing.assert_close(loss.outcome.trajectory.energies[0], ends)
    back = MIRADPO().loss(problem(), pair(), anchor(), 1).outcome.trajectory
    assert (loss.outcome.trajectory.energies[1] > 0.01).all() and torch.equal(back.energies[1], torch.zeros(4))


def test_the_rewards_gradient_is_not_looked_at() -> None:
    slopes = []
    for reward in (Brightness(), BlackBox(Brightness())):
        noise = pair(0.1).requires_grad_()
        loss = MIRADPO().loss(problem(reward), noise, anchor(), 1)
        assert not loss.outcome.reward.requires_grad
        slopes.append(torch.autograd.grad(loss.value.sum(), noise)[0])
    assert torch.equal(*slopes)
    assert MIRADPO().loss(problem(JPEGSize()), pair(), None, 0).value.shape == (2,)


def test_impossible_parameters_are_refused() -> None:
    with pytest.raises(ValueError, match=r"beta must be greater than 0, got 0\.0: at 0 nothing is learned"):
        MIRADPO(beta=0.0)
