"""Feynman-Kac steering: particles resampled by the reward of their predicted images (Singhal et al. 2025)."""

import math
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from ..problem import Outcome, Problem
from ..ranges import positive, share
from ..types import Noise, PerJob
from .base import Found, Search
from .particles import Particles, PerParticle, Swarm, take
from .resampling import effective, normalised, resample

LARGEST = math.log(1e10)
"""Logarithm of the greatest weight in the public code."""


@dataclass(frozen=True, eq=False)
class Steered(Particles):
    """A particle with its weight.

    Attributes:
        seen: the rewards so far as the potential counts them: the greatest, their sum, or the last.
        log_weight: logarithm of the weight since the particles were last resampled.
        log_product: logarithm of the product of all potentials so far.
    """

    seen: PerParticle
    log_weight: PerParticle
    log_product: PerParticle


@dataclass(frozen=True)
class FK(Search):
    """Particles of the base sampler, weighted by potentials of the reward r of their predicted x_0.

    At the last step x_0 itself is scored, so that the law of the weighted particles tends to p(x_0) exp(tilt r(x_0))
    under every potential. The image of highest reward among the particles is returned, as in the public code.

    Attributes:
        particles: K, 4 in the public code; MIRA's table 3 has 16.
        potential: exp of tilt times the rise of r (`diff`), the greatest r so far (`max`, the default of the public
            launch file), the sum of all r (`add`) or r (`rt`); all but `diff` are divided out at the last step.
        tilt: lambda, 10 in the public code; on the scale of the reward.
        first: the first look, as a share of T: step 20 of 100 in the public launch file.
        every: steps between looks, as a share of T.
        until: no looks beyond it but the one at the last step.
        adaptive: resample only where the effective number of particles falls below `threshold`; the last look always
            asks for that. On in the public code for its paper's samples, off in its launch file.
        threshold: as a share of the particles; half of them in the public code.
        legacy_weights: the weights of the public code: forgotten where no resampling happened, at most 1e10, rewards
            floored at 0, and the last look counts r as the potential does (there of the last predicted x_0, here of
            x_0). With `adaptive` it may not steer at all.
        rounds: repeats with noise of their own.
        chunk: particles of every job computed together.
    """

    needs_noise = True

    particles: int = 4
    potential: Literal["max", "diff", "add", "rt"] = "max"
    tilt: float = 10.0
    first: float = 0.2
    every: float = 0.2
    until: float = 0.8
    adaptive: bool = True
    threshold: float = 0.5
    legacy_weights: bool = False
    rounds: int = 1
    chunk: int = 16

    def __post_init__(self) -> None:
        positive(particles=self.particles, tilt=self.tilt, every=self.every, rounds=self.rounds, chunk=self.chunk)
        share(first=self.first, until=self.until, threshold=self.threshold)

    @torch.no_grad()
    def solve(self, problem: Problem, noise: Noise, start: Outcome, index: int) -> Found:
        swarm = Swarm(problem, start.trajectory, self.chunk)
        state, images, reward, ess = self.steer(swarm, noise, index)
        return swarm.found(state, images, reward, self.merit(reward, state, swarm), ess)

    def steer(self, swarm: Swarm, noise: Noise, index: int) -> tuple[Steered, Tensor, PerParticle, PerJob]:
        """The particles at x_0 with their images and rewards, and the least effective number on the way."""
        fresh, steps = swarm.noises(noise, index, self.particles), swarm.schedule.steps
        state, looks = self.begin(swarm.begin(fresh)), self.looks(steps)
        least = torch.full_like(state.seen[0], self.particles)
        images, reward = state.x, state.seen
        for step in range(steps):
            seen = swarm.predict(state.x, step)
            state = swarm.advance(state, seen, step, fresh[:, :, steps - 1 - step])
            if step in looks:
                last = step == steps - 1
                images, reward = swarm.score(state.x if last else seen.x0)
                state = self.weigh(state, self.merit(reward, state, swarm), last)
                weights = normalised(state.log_weight)
                ess = effective(weights).to(least)
                which = (ess < self.threshold * self.particles) | (not self.adaptive and not last)
                ancestors = resample(weights, which, "multinomial", swarm.problem.jobs, index, step)
                state = self.resampled(state, ancestors, which)
                images, reward, least = take(images, ancestors), take(reward, ancestors), least.minimum(ess)
        return state, images, reward, least

    def looks(self, steps: int) -> set[int]:
        """Steps at which particles are weighted, the last one always among them."""
        count = math.floor((self.until - self.first) / self.every + 1e-6) + 1
        shares = [self.first + self.every * n for n in range(count)]
        return {step for share in shares if (step := round(share * steps)) < steps} | {steps - 1}

    def begin(self, state: Particles) -> Steered:
        """Particles that have seen nothing."""
        nothing = state.x.new_zeros(state.x.shape[:2])
        none = torch.full_like(nothing, -torch.inf)
        seen = none if self.potential == "max" and not self.legacy_weights else nothing
        return Steered(state.x, state.noise, state.energies, seen, nothing, nothing)

    def merit(self, reward: PerParticle, state: Particles, swarm: Swarm) -> PerParticle:
        """What the potentials are made of, not a number counting as the worst: here, the reward."""
        return reward.nan_to_num(nan=-torch.inf)

    def weigh(self, state: Steered, merit: PerParticle, last: bool) -> Steered:
        """Weights after one more potential."""
        seen = {"max": torch.maximum(merit, state.seen), "add": merit + state.seen}.get(self.potential, merit)
        potential = self.tilt * (merit - state.seen if self.potential == "diff" else seen)
        if last and self.potential != "diff":
            potential = self.tilt * (seen if self.legacy_weights else merit) - state.log_product
        if self.legacy_weights:
            potential = potential.clamp(max=LARGEST)
        before = torch.zeros_like(potential) if self.legacy_weights else state.log_weight
        product = state.log_product + potential
        return replace(state, seen=seen, log_weight=before + potential, log_product=product)

    def resampled(self, state: Steered, ancestors: Tensor, which: Tensor) -> Steered:
        """The survivors, whose weights are even again in the jobs that were resampled."""
        after = state.index(ancestors)
        if self.legacy_weights:  # what was not resampled never happened
            before = state.log_product - state.log_weight
            return replace(after, log_product=torch.where(which, after.log_product, before))
        return replace(after, log_weight=torch.where(which, torch.zeros_like(after.log_weight), after.log_weight))
