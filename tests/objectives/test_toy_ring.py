"""The toy of DNO's public notebook (`tutorial/simple_dno.ipynb`): its curves, with the exact denoiser of its data.

Data lie on a ring of radius 0.8 to 1.2 in the plane. The notebook trains an MLP on 10,000 points, whose samples
begin at a reward of -0.32; the exact ones begin at -0.22. So gains are compared, to 0.12. Two hundred points stand for
its thousand: their mean reward after 250 iterations varies by 0.03 from seed to seed.
"""

import math
from collections.abc import Sequence
from typing import ClassVar

import pytest
import torch
from torch import Tensor

from mira_pl.backbones.base import Backbone, Condition, Text
from mira_pl.diffusion import Prediction, Schedule
from mira_pl.noise import draw
from mira_pl.objectives import DNO, EstimatedGradient, Objective
from mira_pl.problem import Outcome, Problem
from mira_pl.rewards import Reward
from mira_pl.trajectory import Engine
from mira_pl.types import Job, Noise

POINTS, STEPS = 200, 100


class Ring(Backbone):
    """The posterior mean of the ring at every noise level, by quadrature over the radius; x is [b, 2, 1, 1].

    At eta = 1 the notebook's sampler goes to the predicted x_0 and adds all of the next level's noise.
    """

    def __init__(self) -> None:
        variance = torch.linspace(1 - 1e-5, 1e-5, STEPS + 1, dtype=torch.float64)
        level, after = variance[:-1].float(), variance[1:].float()
        self.schedule = Schedule(tuple(range(STEPS, 0, -1)), 1 - level, 1 - after, after.sqrt())
        self.latent_shape = (2, 1, 1)
        self.radii = torch.linspace(0.8, 1.2, 9)
        weights = torch.ones(9)
        weights[[0, -1]] = 0.5
        self.log_weights = (weights / weights.sum()).log()

    def encode(self, prompts: Sequence[str]) -> Condition:
        nothing = Text(torch.zeros(len(prompts), 1, 1))
        return Condition(nothing, nothing)

    def predict(self, x: Tensor, step: int, condition: Condition) -> Prediction:
        alpha = self.schedule.alpha[step]
        distance = x.flatten(1).norm(dim=1, keepdim=True).clamp(min=1e-6)
        pull = alpha.sqrt() * self.radii * distance / (1 - alpha)
        log_share = self.log_weights - (distance - alpha.sqrt() * self.radii) ** 2 / (2 - 2 * alpha)
        share = torch.softmax(log_share + torch.special.i0e(pull).log(), dim=1)
        radius = (share * self.radii * torch.special.i1e(pull) / torch.special.i0e(pull)).sum(dim=1, keepdim=True)
        mean = x * (radius / distance)[..., None, None]
        return Prediction((x - alpha.sqrt() * mean) / (1 - alpha).sqrt(), mean)

    def denoise(self, x: Tensor, timestep: Tensor, condition: Condition) -> Tensor:
        raise NotImplementedError

    def decode(self, latents: Tensor) -> Tensor:
        return torch.cat([latents, torch.zeros_like(latents[:, :1])], dim=1)

    def alpha(self, timestep: Tensor) -> Tensor:
        raise NotImplementedError

    def to(self, device: torch.device | str) -> "Ring":
        return self


class Hills(Reward):
    """sin(4 pi x) + sin(4 pi y) - ((x - 1)^2 - y^2) / 5."""

    differentiable: ClassVar[bool] = True

    def score(self, images: Tensor, prompts: Sequence[str]) -> Tensor:
        x, y = images[:, 0, 0, 0], images[:, 1, 0, 0]
        return torch.sin(4 * math.pi * x) + torch.sin(4 * math.pi * y) - ((x - 1) ** 2 - y**2) / 5


class OneLengthForAll(EstimatedGradient):
    """The notebook's scale: each coordinate of the estimate is divided by its norm over all points."""

    def estimate(self, problem: Problem, noise: Noise, outcome: Outcome, tick: int) -> Tensor:
        total = super().estimate(problem, noise, outcome, tick)
        return total / total.norm(dim=0).clamp(min=torch.finfo(total.dtype).tiny)


def curve(objective: Objective, iterations: int, every: int) -> list[float]:
    """Mean reward of the points at every so many iterations of Adam (0.01), as in the notebook."""
    jobs = [Job("", seed, str(seed)) for seed in range(POINTS)]
    problem = Problem.of(Ring(), Hills(), jobs, Engine("full"))
    noise = draw(jobs, problem.backbone.noise_shape).requires_grad_()
    optimizer, means = torch.optim.Adam([noise], lr=0.01), []
    for tick in range(iterations + 1):
        optimizer.zero_grad()
        loss = objective.loss(problem, noise, None, tick)
        loss.value.sum().backward()
        if tick % every == 0:
            means.append(float(loss.outcome.reward.detach().mean()))
        optimizer.step()
    return means


def test_the_ring_is_sampled() -> None:
    jobs = [Job("", seed, str(seed)) for seed in range(POINTS)]
    problem = Problem.of(Ring(), Hills(), jobs, Engine("full"))
    with torch.no_grad():
        points = problem.attempt(draw(jobs, problem.backbone.noise_shape)).trajectory.latents.flatten(1)
    radii = points.norm(dim=1)
    assert float(radii.mean()) == pytest.approx(1.0, abs=0.05) and radii.min() > 0.7 and radii.max() < 1.3
    assert (points.mean(dim=0).abs() < 0.2).all()


@pytest.mark.slow
def test_the_curve_of_dno() -> None:
    """The notebook's losses: 0.325, -1.000, -1.231, -1.385, -1.487, -1.552 at iterations 0, 20, ..., 100."""
    means = curve(DNO(), 100, 20)
    gains = [mean - means[0] for mean in means]
    assert gains == pytest.approx([0, 1.325, 1.556, 1.710, 1.812, 1.877], abs=0.12)
    assert means[-1] == pytest.approx(1.552, abs=0.12)


@pytest.mark.slow
def test_the_curve_of_hybrid_2() -> None:
    """The notebook's rewards with two queries: -0.306, 0.828, 0.899, 0.974, 1.031, 1.080 at 0, 50, ..., 250."""
    means = curve(OneLengthForAll(DNO(), queries=2, normalise=False), 250, 50)
    assert means[1:] == pytest.approx([0.828, 0.899, 0.974, 1.031, 1.080], abs=0.12)
    assert means == sorted(means)


@pytest.mark.slow
def test_points_of_their_own_length_climb_higher() -> None:
    """As in the public scripts, which learn one picture at a time."""
    together = curve(OneLengthForAll(DNO(), queries=2, normalise=False), 100, 50)
    apart = curve(EstimatedGradient(DNO(), queries=2), 100, 50)
    assert apart[0] == together[0] and apart[1] > together[1] + 0.03 and apart[2] > together[2] + 0.05
