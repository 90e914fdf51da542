"""ReNO: reward ascent on x_T of one-step models, held near the shell where Gaussian noise lies (Eyring et al. 2024)."""

from dataclasses import dataclass

import torch

from ..problem import Problem
from ..trajectory import Trajectory
from ..types import Latents, Noise, PerJob
from .base import NOTHING, Learned, Loss, Memory, Objective


@dataclass(frozen=True)
class ReNO(Objective):
    """L = -r + norm_weight * (|x_T|^2 / 2 - (d - 1) log |x_T|).

    The authors run it with `optimizer: sgd, lr: 5, momentum: 0.9, clip_norm: 0.1, keep: best`, on a sum of rewards.

    Attributes:
        norm_weight: weight of the negative log density of the norm; 0.01 in the public code.
        noises: `initial`, the only noise that a one-step model has; the penalty looks at x_T alone.
    """

    norm_weight: float = 0.01
    noises: Learned = "initial"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.norm_weight < 0:
            raise ValueError(f"norm_weight must be at least 0, got {self.norm_weight}; 0 turns the penalty off")

    def loss(
        self, problem: Problem, noise: Noise, anchor: Trajectory | None, tick: int, memory: Memory = NOTHING
    ) -> Loss:
        outcome = problem.attempt(noise, self.measures(anchor), keep_eps=anchor is None)
        return Loss(-outcome.reward + self.norm_weight * norm_penalty(noise[:, -1]), outcome)


def norm_penalty(x: Latents) -> PerJob:
    """Negative log density of a Gaussian vector's norm, up to a constant; least at sqrt(d - 1)."""
    flat = x.flatten(1)
    norm = flat.norm(dim=1)
    return norm**2 / 2 - (flat.shape[1] - 1) * torch.log(norm)
