"""Problems whose answers are known: linear chains of Gaussians, with rewards of the first channel."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from mira_pl.backbones.analytic import FlowMixture, MixtureBackbone
from mira_pl.backbones.base import Backbone, Condition
from mira_pl.diffusion import Prediction, Schedule, from_noise
from mira_pl.drift import ScoreEnergy
from mira_pl.noise import draw
from mira_pl.problem import Outcome, Problem
from mira_pl.rewards.base import Reward
from mira_pl.searches.particles import Swarm
from mira_pl.trajectory import sample
from mira_pl.types import Images, Job, Latents, Noise, PerJob


@dataclass
class Linear(Reward):
    """slope times the first channel's first pixel."""

    slope: float = 1.0
    differentiable = True

    def score(self, images: Images, prompts: Sequence[str]) -> PerJob:
        return self.slope * images[:, 0, 0, 0]


@dataclass
class Near(Reward):
    """-(x - goal)^2 / 2 of the first channel's first pixel."""

    goal: float = 1.5
    differentiable = True

    def score(self, images: Images, prompts: Sequence[str]) -> PerJob:
        return -((images[:, 0, 0, 0] - self.goal) ** 2) / 2


@dataclass(eq=False)
class GuidedMixture(MixtureBackbone):
    """A mixture whose empty prompt is standard normal data: both branches in closed form."""

    guidance: float = 2.0

    def predict(self, x: Latents, step: int, condition: Condition) -> Prediction:
        return self.guided(x, step, condition)[0]

    def guided(self, x: Latents, step: int, condition: Condition) -> tuple[Prediction, Latents]:
        alpha = self.schedule.alpha[step]
        empty = (1 - alpha) ** 0.5 * x
        pull = self._eps(x, alpha.expand(len(x))) - empty
        return from_noise(x, self.count(empty + self.guidance * pull, 2), alpha), pull


@dataclass(eq=False)
class GuidedFlow(FlowMixture):
    """The same of a rectified flow, which begins at abar = 0."""

    guidance: float = 2.0

    def predict(self, x: Latents, step: int, condition: Condition) -> Prediction:
        return self.guided(x, step, condition)[0]

    def guided(self, x: Latents, step: int, condition: Condition) -> tuple[Prediction, Latents]:
        alpha = self.schedule.alpha[step].expand(len(x))
        mine = self.expected(x, alpha**0.5, (1 - alpha) ** 0.5)
        signal, noise = (level**0.5 for level in (self.schedule.alpha[step], 1 - self.schedule.alpha[step]))
        pull, clean = mine.eps - noise * x, mine.x0 - signal * x
        eps = self.count(noise * x + self.guidance * pull, 2)
        return Prediction(eps, signal * x + self.guidance * clean), pull


def gaussian(steps: int, mean: float = 0.0, eta: float = 1.0) -> MixtureBackbone:
    """Data from N(mean, 1) in each of three numbers."""
    return MixtureBackbone(torch.full((1, 3, 1, 1), mean), torch.ones(1), torch.ones(1), steps=steps, eta=eta)


def flow(steps: int, eta: float = 1.0) -> FlowMixture:
    """Data from N(0, 1) in each of three numbers, sampled as a rectified flow."""
    return FlowMixture(torch.zeros(1, 3, 1, 1), torch.ones(1), torch.ones(1), steps=steps, eta=eta)


def modes(steps: int = 50) -> MixtureBackbone:
    """A common mode at -1.5 and a rare one at 1.5, which has the higher `Linear` reward."""
    means = torch.zeros(2, 3, 1, 1)
    means[0, 0], means[1, 0] = -1.5, 1.5
    return MixtureBackbone(means, torch.tensor([0.5, 0.5]), torch.tensor([0.8, 0.2]), steps=steps)


def rare_share(tilt: float) -> float:
    """Of the rare mode as its chain draws it, tilted by exp(tilt x): its odds are exp(3 tilt) times as high."""
    backbone, generator = modes(), torch.Generator().manual_seed(0)
    noise = torch.randn(4000, *backbone.noise_shape, generator=generator)
    share = float((sample(backbone, backbone.encode([""] * 4000), noise).latents[:, 0, 0, 0] > 0).float().mean())
    assert 0.1 < share < 0.3
    odds = share / (1 - share) * math.exp(3 * tilt)
    return odds / (1 + odds)


def variance(schedule: Schedule) -> float:
    """Of x_0 as the chain draws it from standard normal data: below 1, since the steps are finite."""
    x = torch.tensor([1.0])
    for alpha, alpha_prev, sigma in zip(schedule.alpha, schedule.alpha_prev, schedule.sigmas, strict=True):
        slope = (alpha_prev * alpha) ** 0.5 + ((1 - alpha_prev - sigma**2).clamp(min=0) * (1 - alpha)) ** 0.5
        x = slope**2 * x + sigma**2
    return float(x)


def jobs(count: int) -> list[Job]:
    return [Job(f"prompt {seed}", seed, f"job-{seed}") for seed in range(count)]


def posed(backbone: Backbone, reward: Reward, count: int = 2) -> tuple[Problem, Noise, Outcome]:
    """A problem of so many jobs, with their noise and their start."""
    problem = Problem.of(backbone, reward, jobs(count))
    noise = draw(problem.jobs, backbone.noise_shape)
    with torch.no_grad():
        return problem, noise, problem.attempt(noise, [ScoreEnergy()], keep_eps=True)


def swarm_of(problem: Problem, start: Outcome, chunk: int = 10_000) -> Swarm:
    return Swarm(problem, start.trajectory, chunk)


def moments(values: Tensor, weights: Tensor) -> tuple[float, float]:
    """Weighted mean and variance over particles, averaged over jobs."""
    mean = (weights * values).sum(dim=0)
    return float(mean.mean()), float(((weights * (values - mean) ** 2).sum(dim=0)).mean())
