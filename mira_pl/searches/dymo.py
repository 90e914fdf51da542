"""DyMO: reward steps as long as those of classifier-free guidance, with time travel (Xie and Gong 2024)."""

from dataclasses import dataclass
from functools import partial

import torch

from ..backbones.base import Backbone
from ..noise import redraw
from ..problem import Outcome, Problem
from ..ranges import positive
from ..rewards.base import Reward
from ..types import Noise
from .base import Found, Search
from .guidance import ascent
from .particles import Particles, Predicted, Swarm, Swarmed


@dataclass(frozen=True)
class DyMO(Search):
    """x_prev + rho grad r(x_0 as predicted from x), rho = scale |eps_c - eps_u| / |grad r|: the preference part.

    The reward stands where DyMO has a step-aware preference model on augmented copies; its attention loss is left
    out. DyMO's weight exp(-delta) of its middle stage scales a gradient that is then normalised: without an attention
    loss beside it, it changes nothing.

    Attributes:
        scale: 1 in the public code for SD 1.5 in these stages, 0.2 to 0.6 times the guidance for SDXL.
        first: share of T before which the sampler is left alone: step 8 of 50, where DyMO guides attention only.
        repeats: how often a guided step is noised again and repeated. DyMO decides by the size of the gradient, 1 or
            more times on the scale of its own preference model.
        rounds: repeats of the whole with noise of their own.
    """

    needs_gradient = True

    scale: float = 1.0
    first: float = 0.16
    repeats: int = 1
    rounds: int = 1

    def __post_init__(self) -> None:
        positive(scale=self.scale, rounds=self.rounds)
        if self.repeats < 0 or not 0 <= self.first <= 1:
            raise ValueError(f"repeats must be at least 0 and first in 0..1, got {self.repeats}, {self.first}")

    def check(self, backbone: Backbone, reward: Reward) -> None:
        super().check(backbone, reward)
        if backbone.guidance == 1:
            raise ValueError(
                "DyMO's steps are as long as those of classifier-free guidance, but this model runs without it "
                "(guidance 1, or FLUX): raise model.backbone.guidance where there is one, or take DPS"
            )

    @torch.no_grad()
    def solve(self, problem: Problem, noise: Noise, start: Outcome, index: int) -> Found:
        swarm, steps = Swarm(problem, start.trajectory, 1), problem.backbone.schedule.steps
        fresh = swarm.noises(noise, index, 1)
        state = swarm.begin(fresh)
        for step in range(steps):
            z, guided = fresh[:, :, steps - 1 - step], step >= self.first * steps
            for number in range(self.repeats if guided else 0):
                again, ahead = self.drawn(problem, noise, index, step, number)
                state = self.travel(swarm, state, self.stepped(swarm, state, step, z, guided), step, again)
                z = ahead
            state = self.stepped(swarm, state, step, z, guided)
        images, reward = swarm.score(state.x)
        return swarm.found(state, images, reward, reward, torch.ones_like(reward[0]))

    def drawn(self, problem: Problem, noise: Noise, *path: int) -> tuple[Swarmed, Swarmed]:
        """Noise of the way back, and of the way forth after it."""
        both = redraw(problem.jobs, (2, *noise.shape[2:]), "travel", *path).to(noise)
        return both[None, :, 0], both[None, :, 1]

    def stepped(self, swarm: Swarm, state: Particles, step: int, z: Swarmed, guided: bool) -> Particles:
        """One step, its result moved up the reward."""
        if not guided:
            return swarm.advance(state, swarm.predict(state.x, step), step, z)
        eps, x0, pull, _, gradient = swarm.each(state.x, partial(ascent, step=step))
        length, slope = (part.flatten(2).norm(dim=2)[..., None, None, None] for part in (pull, gradient))
        shift = torch.where(slope > 0, self.scale * length * gradient / slope, torch.zeros_like(gradient))
        return swarm.advance(state, Predicted(eps, x0), step, z, shift)

    def travel(self, swarm: Swarm, state: Particles, after: Particles, step: int, noise: Swarmed) -> Particles:
        """Back to the level before the step, with new noise; booked as noise of the step that led there."""
        schedule = swarm.schedule
        kept = schedule.alpha[step] / schedule.alpha_prev[step]
        back = kept**0.5 * after.x + (1 - kept) ** 0.5 * noise
        return swarm.moved(state, back - state.x, schedule.sigmas[step - 1] if step else schedule.start)
