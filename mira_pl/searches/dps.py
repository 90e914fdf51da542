"""DPS: the reward's gradient as guidance of the predicted noise (Chung et al. 2023; Bansal et al. 2023)."""

from dataclasses import dataclass
from functools import partial

import torch

from ..problem import Outcome, Problem
from ..types import Noise
from .base import Found, Search, positive
from .guidance import Through, ascent
from .particles import Swarm


@dataclass(frozen=True)
class DPS(Search):
    """eps - sqrt(1 - abar) scale grad r(x_0 as predicted from x): the score of p(x) exp(scale r), one path a job.

    Attributes:
        scale: strength; on the scale of the reward. 5 in CoDe's template of its gradient guidance.
        through: `denoiser` is DPS; `decoder` is CoDe's cheaper variant, whose gradient takes the prediction as
            constant: no denoiser call goes backward.
        rounds: repeats with noise of their own.
    """

    needs_gradient = True

    scale: float = 5.0
    through: Through = "denoiser"
    rounds: int = 1

    def __post_init__(self) -> None:
        positive(scale=self.scale, rounds=self.rounds)

    @torch.no_grad()
    def solve(self, problem: Problem, noise: Noise, start: Outcome, index: int) -> Found:
        swarm, schedule = Swarm(problem, start.trajectory, 1), problem.backbone.schedule
        fresh = swarm.noises(noise, index, 1)
        state = swarm.begin(fresh)
        for step in range(schedule.steps):
            eps, _, _, gradient = swarm.each(state.x, partial(ascent, step=step, through=self.through))
            guided = eps - (1 - schedule.alpha[step]) ** 0.5 * self.scale * gradient
            shift = swarm.mean(state.x, guided, step) - swarm.mean(state.x, eps, step)
            state = swarm.advance(state, eps, step, fresh[:, :, schedule.steps - 1 - step], shift)
        images, reward = swarm.score(state.x)
        return swarm.found(state, images, reward, reward, torch.ones_like(reward[0]))
