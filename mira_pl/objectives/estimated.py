"""Reward gradients from reward values alone: the zeroth-order and hybrid estimators of DNO (Tang et al. 2024)."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import torch
from torch import Tensor

from ..backbones.base import Backbone
from ..drift import Measure
from ..noise import stream
from ..problem import Outcome, Problem
from ..ranges import positive
from ..rewards.base import BlackBox
from ..trajectory import Trajectory
from ..types import Images, Job, Noise
from .base import NOTHING, Learned, Loss, Memory, Objective

Estimator = Literal["hybrid2", "hybrid1", "zo"]


@dataclass(frozen=True)
class EstimatedGradient(Objective):
    """Any method of the form L = -r + penalty, with an estimate in the place of the reward's gradient.

    With standard normal directions xi_1 .. xi_q and r_i, x_i the reward and the image of a perturbed sample:

    - `hybrid2`: g = sum_i (r_i - r) (x_i - x) / (q mu^2), x_i the image of z + mu xi_i: always what the model draws.
    - `hybrid1`: g = sum_i (r_i - r) xi_i / (q mu), x_i = x + mu xi_i in pixels: q reward calls, no sampling.
    - `zo`: g = sum_i (r_i - r) xi_i / (q mu), x_i the image of z + mu xi_i: nothing of the reward is propagated back.

    The first two are gradients in the image, which go back to the noise through the sampler's exact Jacobian J; the
    last one is a gradient in the noise. As mu falls and q grows, `hybrid1` and `zo` go to the true gradient and
    `hybrid2` to J J^T times it: an ascent direction, but no multiple of the gradient.

    Attributes:
        objective: the method.
        estimator: `hybrid2` is what the public code of DNO runs (`dno_stable_diffusion_nograd.py`).
        mu: size of the perturbation; 0.01 in the public code.
        queries: q; 4 a device in the public code, one device of them not counted.
        normalise: g has length 1 for every job, as in the public code: then neither the reward's scale nor mu
            matters, and a penalty is weighed against a gradient of length 1.
    """

    needs_gradient: ClassVar[bool] = False

    objective: Objective
    estimator: Estimator = "hybrid2"
    mu: float = 0.01
    queries: int = 4
    normalise: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.objective.needs_gradient:
            raise ValueError(f"{self.objective.name} needs no reward gradient: take it without EstimatedGradient")
        if not self.objective.estimable:
            raise ValueError(f"{self.objective.name} weighs by the reward's true gradient: take DNO or MIRA inside")
        positive(mu=self.mu, queries=self.queries)

    @property
    def name(self) -> str:
        """The method inside and the estimator."""
        return f"{self.objective.name} ({self.estimator})"

    @property
    def noises(self) -> Learned:  # type: ignore[override]  # what is learned is the inner method's choice
        """Those of the method inside."""
        return self.objective.noises

    def loss(
        self, problem: Problem, noise: Noise, anchor: Trajectory | None, tick: int, memory: Memory = NOTHING
    ) -> Loss:
        blind = replace(problem, reward=BlackBox(problem.reward))
        loss = self.objective.loss(blind, noise, anchor, tick, memory)
        images = loss.outcome.trajectory.images
        point = noise if self.estimator == "zo" else images
        gradient = self.estimate(blind, noise.detach(), loss.outcome.detach(), tick)
        ascent = (gradient * point).flatten(1).sum(dim=1)
        value = loss.value - (ascent - ascent.detach())  # the value stays what it is, its gradient is the estimate
        return replace(loss, value=value, scored=self.queries if self.estimator == "hybrid1" else 0)

    @torch.no_grad()
    def estimate(self, problem: Problem, noise: Noise, outcome: Outcome, tick: int) -> Tensor:
        """The reward's gradient in the image or, for `zo`, in the noise; of the shape of either."""
        images, reward = outcome.trajectory.images, outcome.reward
        total = torch.zeros_like(noise if self.estimator == "zo" else images)
        for query in range(self.queries):
            if self.estimator == "hybrid1":
                step = self.mu * directions(problem.jobs, images, tick, query)
                gain = problem.reward.score(images + step, problem.prompts) - reward
            else:
                step = self.mu * self._masked(directions(problem.jobs, noise, tick, query))
                other = problem.attempt(noise + step)
                gain = other.reward - reward
                step = other.trajectory.images - images if self.estimator == "hybrid2" else step
            total += gain.view(-1, *[1] * (step.dim() - 1)) * step
        total /= self.queries * self.mu**2
        if not self.normalise:
            return total
        length = total.flatten(1).norm(dim=1).clamp(min=torch.finfo(total.dtype).tiny)
        return total / length.view(-1, *[1] * (total.dim() - 1))

    def check_noise(self, backbone: Backbone) -> None:
        self.objective.check_noise(backbone)

    def _masked(self, direction: Noise) -> Noise:
        """Where x_T alone is learned, x_T alone is perturbed."""
        direction[:, ~self.moves(direction.shape[1])] = 0
        return direction

    def start(self, jobs: Sequence[Job], shape: Sequence[int]) -> Noise:
        return self.objective.start(jobs, shape)

    def moves(self, maps: int) -> Tensor:
        return self.objective.moves(maps)

    def optimizer(self, noise: torch.nn.Parameter, jobs: Sequence[Job]) -> torch.optim.Optimizer | None:
        return self.objective.optimizer(noise, jobs)

    def measures(self, anchor: Trajectory | None) -> Sequence[Measure]:
        return self.objective.measures(anchor)


def directions(jobs: Sequence[Job], like: Noise | Images, tick: int, query: int) -> Tensor:
    """Standard normal numbers of the shape of `like`, [b, ...]: every job's own, and other ones in every iteration."""
    drawn = [torch.randn(like.shape[1:], generator=stream(job.seed, "direction", tick, query)) for job in jobs]
    return torch.stack(drawn).to(like)
