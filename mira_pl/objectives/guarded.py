"""Reward ascent with CLIPScore as a guard, of our own: a second ascent whose strength follows the reward's."""

from dataclasses import dataclass
from typing import ClassVar

import torch

from ..backbones.base import Backbone
from ..problem import Problem
from ..ranges import not_negative
from ..rewards.base import Reward, need_gradient
from ..trajectory import Trajectory
from ..types import Noise, PerJob
from .base import NOTHING, Learned, Loss, Memory, Objective


@dataclass(frozen=True)
class Guarded(Objective):
    """L = -(r + weight rho c), with c the CLIPScore of picture and prompt and rho = |dr/dx_0| / |dc/dx_0|.

    rho is that of each job and iteration and no gradient passes through it, so both pull at the final latents with
    forces of a fixed ratio, whatever the scales of reward and CLIPScore.

    Attributes:
        weight: of the guard's force against the reward's, at least 0.
        noises: `trajectory` learns x_T and the noise of every step, `initial` x_T alone.
    """

    estimable: ClassVar[bool] = False

    weight: float = 2.0
    noises: Learned = "trajectory"

    def __post_init__(self) -> None:
        super().__post_init__()
        not_negative(weight=self.weight)

    def check(self, backbone: Backbone, reward: Reward, clip: Reward | None = None) -> None:
        super().check(backbone, reward, clip)
        if clip is None:
            raise ValueError("Guarded guards by CLIPScore, but model.clip is null: give it a reward")
        need_gradient("the guard of Guarded", clip, "a method without guard")

    def loss(
        self, problem: Problem, noise: Noise, anchor: Trajectory | None, tick: int, memory: Memory = NOTHING
    ) -> Loss:
        assert problem.clip is not None  # `check` has seen it
        outcome = problem.attempt(noise, self.measures(anchor), keep_eps=anchor is None)
        path = outcome.trajectory
        guard = problem.clip.score(path.images, problem.prompts)
        rho = length(outcome.reward, path.latents) / length(guard, path.latents)
        rho = torch.where(rho.isfinite(), rho, 0)  # a guard without a slope pulls nowhere
        return Loss(-outcome.reward - self.weight * rho * guard, outcome, scored=1)


SCALE = 2.0**10
"""Of the scores on their way back: float16 has no number for the slope of a mean over a million pixels."""


def length(score: PerJob, latents: torch.Tensor) -> PerJob:
    """Norm of every job's gradient of its score in the final latents; the graph is kept."""
    (gradient,) = torch.autograd.grad(SCALE * score.sum(), latents, retain_graph=True)
    return gradient.float().flatten(1).norm(dim=1) / SCALE
