"""DPS: the reward's gradient as guidance of the predicted noise (Chung et al. 2023; Bansal et al. 2023)."""

from dataclasses import dataclass
from functools import partial

import torch

from ..backbones.base import Backbone
from ..problem import Outcome, Problem
from ..ranges import positive
from ..rewards.base import Reward
from ..types import Noise
from .base import Found, Search
from .guidance import Through, ascent
from .particles import Particles, Predicted, Swarm, Swarmed


@dataclass(frozen=True)
class DPS(Search):
    """eps - sqrt(1 - abar) scale grad r(x_0 as predicted from x): the score of p(x) exp(scale r), one path a job.

    Where abar is 0, at the start of a flow, x says nothing of x_0: that step is the sampler's own.

    Attributes:
        scale: strength; on the scale of the reward. 5 in CoDe's template of its gradient guidance.
        through: `denoiser` is DPS; `decoder` is CoDe's cheaper variant, whose gradient takes the prediction as
            constant: no denoiser call goes backward. It grows as 1 / abar and is not for flows.
        rounds: repeats with noise of their own.
    """

    needs_gradient = True

    scale: float = 5.0
    through: Through = "denoiser"
    rounds: int = 1

    def __post_init__(self) -> None:
        positive(scale=self.scale, rounds=self.rounds)

    def check(self, backbone: Backbone, reward: Reward) -> None:
        super().check(backbone, reward)
        if self.through == "decoder" and not bool((backbone.schedule.alpha > 0).all()):
            raise ValueError(
                "DPS through the decoder divides by abar, but this sampler begins at abar = 0, as flows do: "
                "set model.search.through to denoiser"
            )

    @torch.no_grad()
    def solve(self, problem: Problem, noise: Noise, start: Outcome, index: int) -> Found:
        swarm, schedule = Swarm(problem, start.trajectory, 1), problem.backbone.schedule
        fresh = swarm.noises(noise, index, 1)
        state = swarm.begin(fresh)
        for step in range(schedule.steps):
            z = fresh[:, :, schedule.steps - 1 - step]
            if schedule.alpha[step] == 0:
                state = swarm.advance(state, swarm.predict(state.x, step), step, z)
            else:
                state = self.guided(swarm, state, step, z)
        images, reward = swarm.score(state.x)
        return swarm.found(state, images, reward, reward, torch.ones_like(reward[0]))

    def guided(self, swarm: Swarm, state: Particles, step: int, z: Swarmed) -> Particles:
        """One step, moved as the change of its prediction moves it."""
        eps, x0, _, _, gradient = swarm.each(state.x, partial(ascent, step=step, through=self.through))
        alpha = swarm.schedule.alpha[step]
        change = -((1 - alpha) ** 0.5) * self.scale * gradient  # of eps; x stays, so x_0 moves against it
        shift = swarm.mean(Predicted(change, -(((1 - alpha) / alpha) ** 0.5) * change), step)
        return swarm.advance(state, Predicted(eps, x0), step, z, shift)
