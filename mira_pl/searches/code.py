"""CoDe: blockwise best-of-N along the sampling chain (Singh et al. 2025); SVDD and best-of-N are its two ends."""

from dataclasses import dataclass

import torch

from ..problem import Outcome, Problem
from ..ranges import positive
from ..types import Noise
from .base import Found, Search
from .particles import Swarm


@dataclass(frozen=True)
class CoDe(Search):
    """All candidates start as copies of one x_T; after every block of steps the best one goes on, copied N times.

    A candidate is judged by the reward of its predicted x_0, at the end by that of x_0. The look-ahead predicts from
    the latents that the next step starts with, so it is that step's prediction too and costs nothing.

    Attributes:
        candidates: N, 20 in MIRA's table 3.
        block: B, steps of a block. 1 is SVDD (Li et al. 2024) with a hard choice, T is best-of-N with a shared start.
            The public code takes 5 or 10 of 500 steps.
        rounds: repeats with noise of their own.
        chunk: candidates of every job computed together.
    """

    needs_noise = True

    candidates: int = 20
    block: int = 5
    rounds: int = 1
    chunk: int = 16

    def __post_init__(self) -> None:
        positive(candidates=self.candidates, block=self.block, rounds=self.rounds, chunk=self.chunk)

    @torch.no_grad()
    def solve(self, problem: Problem, noise: Noise, start: Outcome, index: int) -> Found:
        swarm, steps = Swarm(problem, start.trajectory, self.chunk), problem.backbone.schedule.steps
        fresh = swarm.noises(noise, index, self.candidates)
        fresh[:, :, -1] = fresh[0, :, -1]
        state = swarm.begin(fresh)
        seen = swarm.predict(state.x, 0)
        for step in range(steps - 1):
            state = swarm.advance(state, seen, step, fresh[:, :, steps - 1 - step])
            seen = swarm.predict(state.x, step + 1)
            if (step + 1) % self.block == 0:
                _, reward = swarm.score(seen.x0)
                best = reward.nan_to_num(nan=-torch.inf).argmax(dim=0).expand(self.candidates, -1)
                state, seen = state.index(best), seen.index(best)
        state = swarm.advance(state, seen, steps - 1, fresh[:, :, 0])
        images, reward = swarm.score(state.x)
        return swarm.found(state, images, reward, reward, torch.ones_like(reward[0]))
