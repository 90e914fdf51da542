"""Best-of-N: as many images as one likes, and the one of highest reward (Nakano et al. 2021)."""

from dataclasses import dataclass
from typing import Literal

import torch

from ..backbones.base import Backbone
from ..drift import ScoreDifference, ScoreEnergy
from ..problem import Outcome, Problem
from ..ranges import positive
from ..rewards.base import Reward
from ..trajectory import Trajectory
from ..types import Noise
from .base import Found, Search, need_noise
from .particles import drawn, kept_eps


@dataclass(frozen=True)
class BestOfN(Search):
    """The best of `candidates` images; a round is a candidate, and the first one is that of the job's own noise.

    Attributes:
        candidates: N, 50 in MIRA's tables 1 to 3.
        start: `independent` draws x_T anew, as MIRA's baseline; `shared` keeps the job's x_T and redraws the noise of
            the steps alone, as the public code of CoDe, which then needs a sampler with noise.
    """

    uses_start = True

    candidates: int = 50
    start: Literal["independent", "shared"] = "independent"

    def __post_init__(self) -> None:
        positive(candidates=self.candidates)

    @property
    def rounds(self) -> int:  # type: ignore[override]
        """One for every candidate."""
        return self.candidates

    @torch.no_grad()
    def solve(self, problem: Problem, noise: Noise, start: Outcome, index: int) -> Found:
        fresh = drawn(problem.jobs, noise, 0, index)
        if self.start == "shared":
            fresh = torch.cat([fresh[:, :-1], noise[:, -1:]], dim=1)
        outcome = self.first(start) if index == 0 else self.attempt(problem, fresh, start)
        return Found(outcome, fresh, outcome.reward, torch.ones_like(outcome.reward))

    def first(self, start: Outcome) -> Outcome:
        """The start itself, which has not moved."""
        path = start.trajectory
        energies = torch.stack([path.energies[0], torch.zeros_like(path.energies[0])])
        return Outcome(Trajectory(path.images, path.latents, energies, None), start.reward)

    def attempt(self, problem: Problem, noise: Noise, start: Outcome) -> Outcome:
        """Another candidate."""
        return problem.attempt(noise, [ScoreEnergy(), ScoreDifference(kept_eps(start.trajectory))])

    def check(self, backbone: Backbone, reward: Reward) -> None:
        super().check(backbone, reward)
        if self.start == "shared":
            need_noise("BestOfN with a shared start", backbone)
