"""DAS: tempered sequential Monte Carlo towards p(x) exp(r(x) / alpha), with the reward's gradient (Kim et al. 2025)."""

from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor

from ..problem import Outcome, Problem
from ..ranges import positive, share
from ..types import Noise, PerJob
from .base import Found, Search
from .guidance import ascent
from .particles import Particles, PerParticle, Predicted, Swarm, Swarmed
from .resampling import Scheme, effective, normalised, resample


@dataclass(frozen=True, eq=False)
class Tempered(Particles):
    """A particle with its weight and what the next proposal needs of it.

    Attributes:
        eps, x0: prediction at x.
        guidance: gradient of the next temperature's log-potential in x.
        twist: log-potential of this temperature: that share of r / alpha at the predicted x_0.
        log_weight: since the particles were last resampled.
    """

    eps: Swarmed
    x0: Swarmed
    guidance: Swarmed
    twist: PerParticle
    log_weight: PerParticle


@dataclass(frozen=True)
class DAS(Search):
    """Particles proposed with the reward's gradient, weighted by what the proposal changed, resampled where few count.

    The particle of greatest weight is returned, as in the public code, not the one of highest reward.

    Attributes:
        particles: N, 4 in the public code; MIRA's table 3 has 8.
        alpha: strength of the pull to the base model; on the scale of the reward. The public code has 0.005 for the
            aesthetic score, 0.0001 for PickScore and 0.01 for 20 times CLIP.
        tempered: share of T after which the temperature is 1; it rises as (1 + gamma)^step - 1. 0.87 is the public
            gamma of 0.008 for 100 steps, 0.91 the one of 0.1 for 8.
        resampling: `ssp` in the public code.
        threshold: least effective number of particles, as a share of them; 0.5 in the public code.
        legacy: the public code's resampling, which leaves guidance and twist with the particles they were not computed
            for. It tends to another law, of too small a variance.
        rounds: repeats with noise of their own.
        chunk: particles of every job computed together; each holds the graph of one denoiser call.
    """

    needs_gradient = True
    needs_noise = True

    particles: int = 4
    alpha: float = 0.005
    tempered: float = 0.87
    resampling: Scheme = "ssp"
    threshold: float = 0.5
    legacy: bool = False
    rounds: int = 1
    chunk: int = 2

    def __post_init__(self) -> None:
        positive(particles=self.particles, alpha=self.alpha, tempered=self.tempered)
        positive(rounds=self.rounds, chunk=self.chunk)
        share(threshold=self.threshold)

    @torch.no_grad()
    def solve(self, problem: Problem, noise: Noise, start: Outcome, index: int) -> Found:
        swarm = Swarm(problem, start.trajectory, self.chunk)
        state, images, reward, ess = self.steer(swarm, noise, index)
        found = swarm.found(state, images, reward, state.log_weight, ess)
        return replace(found, merit=found.outcome.reward)

    def steer(self, swarm: Swarm, noise: Noise, index: int) -> tuple[Tempered, Tensor, PerParticle, PerJob]:
        """The particles at x_0 with their images and rewards, and the least effective number on the way."""
        fresh, steps = swarm.noises(noise, index, self.particles), swarm.schedule.steps
        temperature, state = self.temperatures(steps), self.begin(swarm.begin(fresh))
        least = torch.full_like(state.twist[0], self.particles)
        for step in range(steps):
            state = self.look(swarm, state, step, temperature)
            weights = normalised(state.log_weight)
            ess = effective(weights).to(least)
            state = self.resampled(swarm, state, weights, ess < self.threshold * self.particles, index, step)
            state = self.propose(swarm, state, step, fresh[:, :, steps - 1 - step])
            least = least.minimum(ess)
        images, reward = swarm.score(state.x)
        twist = reward / self.alpha
        return replace(state, twist=twist, log_weight=state.log_weight + twist - state.twist), images, reward, least

    def temperatures(self, steps: int) -> list[float]:
        """Of every step and of the one after the last."""
        gamma = 2 ** (1 / (self.tempered * steps)) - 1
        return [min((1 + gamma) ** step - 1, 1.0) for step in range(steps + 1)]

    def begin(self, state: Particles) -> Tempered:
        """Particles whose first weight is their first potential."""
        nothing = state.x.new_zeros(state.x.shape[:2])
        still = torch.zeros_like(state.x)
        return Tempered(state.x, state.noise, state.energies, still, still, still, nothing, nothing)

    def look(self, swarm: Swarm, state: Tempered, step: int, temperature: list[float]) -> Tempered:
        """Prediction, gradient and weight at the particles' place."""
        eps, x0, _, reward, gradient = swarm.each(state.x, partial(ascent, step=step))
        twist = temperature[step] * reward / self.alpha
        guidance = temperature[step + 1] * gradient / self.alpha
        weight = state.log_weight + twist - state.twist
        return replace(state, eps=eps, x0=x0, guidance=guidance, twist=twist, log_weight=weight)

    def resampled(
        self, swarm: Swarm, state: Tempered, weights: PerParticle, which: Tensor, index: int, step: int
    ) -> Tempered:
        """The survivors with all that is theirs; in the public code, with what belonged to others."""
        ancestors = resample(weights, which, self.resampling, swarm.problem.jobs, index, step)
        after = state.index(ancestors)
        after = replace(after, log_weight=torch.where(which, torch.zeros_like(after.log_weight), after.log_weight))
        return replace(after, guidance=state.guidance, twist=state.twist) if self.legacy else after

    def propose(self, swarm: Swarm, state: Tempered, step: int, noise: Swarmed) -> Tempered:
        """A step with mean + sigma^2 g; the weight is multiplied by p / q, in closed form."""
        sigma, pull = swarm.schedule.sigmas[step], state.guidance
        ratio = -(sigma**2 / 2 * pull.square() + sigma * pull * noise).flatten(2).sum(dim=2)
        after = swarm.advance(state, Predicted(state.eps, state.x0), step, noise, sigma**2 * pull)
        return replace(after, log_weight=state.log_weight + ratio)
