"""Langevin dynamics on noise: a walk that keeps N(0, I) where the reward is flat (ORIGEN, Min et al. 2025)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from ..noise import redraw
from ..problem import Problem
from ..ranges import not_negative, positive
from ..trajectory import Trajectory
from ..types import Job, Noise
from .base import NOTHING, Learned, Loss, Memory, Objective
from .update import Update


@dataclass(frozen=True)
class Langevin(Objective):
    """z <- sqrt(1 - step) z + drive step grad r + sqrt(step) xi, xi ~ N(0, I): an update of its own, no regulariser.

    For small steps it draws from the density N(z; 0, I) exp(2 drive r(z)): the noise stays typical by itself, and
    `drive` says how much reward is worth leaving it. The public code was made for one-step models and a reward whose
    largest value is 0; what it adds there, a step that falls with the reward, is left out here, since the rewards
    of this package have no largest value. Returns the best image if the fit is told `keep: best`, as the authors do.

    Attributes:
        step: gamma in (0, 1]; 0.3 in the public code.
        drive: eta; 0.8 in the public code. Rewards that are averaged over pixels have small slopes and need far more.
        limit: largest size of an element of the gradient; 0.2 in the public code, null for none.
        noises: `initial`, as the authors, or `trajectory`.
    """

    step: float = 0.3
    drive: float = 0.8
    limit: float | None = 0.2
    noises: Learned = "initial"

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.step <= 1:
            raise ValueError(f"step must be in (0, 1], got {self.step}; 1 draws the noise anew in every iteration")
        not_negative(drive=self.drive)
        positive(limit=self.limit)

    def loss(
        self, problem: Problem, noise: Noise, anchor: Trajectory | None, tick: int, memory: Memory = NOTHING
    ) -> Loss:
        outcome = self.attempt(problem, noise, anchor)
        return Loss(-outcome.reward, outcome)

    def optimizer(self, noise: torch.nn.Parameter, jobs: Sequence[Job]) -> torch.optim.Optimizer:
        return LangevinDynamics(noise, jobs, self.step, self.drive, self.limit)


class LangevinDynamics(Update):
    """The update as an optimiser of a loss -r; its noise belongs to job and iteration.

    Args:
        noise: [b, ...], one row a job.
        jobs: whose seeds the injected noise is drawn from.
        step: gamma.
        drive: eta.
        limit: largest size of an element of the gradient, or None.
    """

    def __init__(
        self, noise: torch.nn.Parameter, jobs: Sequence[Job], step: float, drive: float, limit: float | None
    ) -> None:
        super().__init__([noise], {"gamma": step, "drive": drive, "limit": limit})
        self.jobs = jobs

    def move(self, noise: torch.Tensor, slope: torch.Tensor, options: Mapping[str, Any]) -> None:
        tick, gamma = self.state[noise].get("tick", 0), options["gamma"]
        self.state[noise]["tick"] = tick + 1
        if options["limit"] is not None:
            slope = slope.clamp(-options["limit"], options["limit"])
        injected = redraw(self.jobs, noise.shape[1:], "langevin", tick).to(noise)
        noise.mul_((1 - gamma) ** 0.5).sub_(options["drive"] * gamma * slope).add_(gamma**0.5 * injected)
