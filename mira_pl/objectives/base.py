"""A gradient method on noise: a loss a job, minimised, so here stands the one minus sign before a reward."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import ClassVar, Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from ..backbones.base import Backbone
from ..drift import Measure, ScoreDifference, ScoreEnergy
from ..noise import draw, redraw
from ..problem import Outcome, Problem
from ..ranges import finite
from ..rewards.base import Reward, need_gradient
from ..trajectory import Trajectory
from ..types import Job, Noise, PerJob

Learned = Literal["trajectory", "initial"]
Memory = Mapping[str, Tensor]
NOTHING: Memory = MappingProxyType({})


@dataclass(frozen=True, eq=False)
class Loss:
    """What is minimised, one number a job, and the attempt it came from.

    Attributes:
        value: [b].
        outcome: the attempts of every noise, [candidates * b]: the first noise of all jobs, then the second, ...
        memory: what the next iteration is to know of this one; tensors whose first dimension is the job.
        scored: reward calls a job beyond one for every decoded image.
    """

    value: PerJob
    outcome: Outcome
    memory: Memory = field(default_factory=dict)
    scored: int = 0


class Objective(ABC):
    """A frozen dataclass whose fields are the method's hyper-parameters.

    The anchor of a job is its first trajectory, detached: what the frozen model drew from the starting noise. In the
    first iteration there is none yet, and every drift is 0.

    Attributes:
        noises: `trajectory` learns x_T and the noise of every step, `initial` x_T alone.
        candidates: noises a job learns; it returns one of them.
        needs_gradient: whether the reward must carry gradients; a method that does without takes black boxes.
        estimable: whether an estimate can take the place of that gradient, see `EstimatedGradient`.
    """

    noises: Learned
    candidates: ClassVar[int] = 1
    needs_gradient: ClassVar[bool] = True
    estimable: ClassVar[bool] = True

    def __post_init__(self) -> None:
        """Refuse hyper-parameters that are NaN or infinite; call it before checks of one's own."""
        finite(**{name: value for name, value in vars(self).items() if isinstance(value, float)})

    @property
    def name(self) -> str:
        """What logs and records call this method."""
        return type(self).__name__

    def check(self, backbone: Backbone, reward: Reward, clip: Reward | None = None) -> None:
        """Refuse a model, a reward or a CLIPScore that this method cannot work with.

        Raises:
            ValueError: says which, and the way out.
        """
        if self.needs_gradient:
            inside = self.name if self.estimable else "DNO"
            around = f"EstimatedGradient around {inside} (configs/methods/mira_dpo.yaml, hybrid2.yaml)"
            need_gradient(self.name, reward, f"a method for black boxes: MIRADPO, or {around}")
        self.check_noise(backbone)

    def check_noise(self, backbone: Backbone) -> None:  # noqa: B027  # most methods take any
        """Refuse a shape of noise that this method cannot work with.

        Raises:
            ValueError: says why, and the way out.
        """

    @abstractmethod
    def loss(
        self, problem: Problem, noise: Noise, anchor: Trajectory | None, tick: int, memory: Memory = NOTHING
    ) -> Loss:
        """The loss of every job at iteration `tick`, differentiable in `noise`, the learned maps of `start`."""

    def start(self, jobs: Sequence[Job], shape: Sequence[int]) -> Float[Tensor, "b maps c h w"]:
        """What is learned, before the first iteration: the noises of a job's candidates, one after the other.

        The first one is that of the job's seed under every method, so that all methods begin at one image.
        """
        others = [redraw(jobs, shape, "candidate", number) for number in range(1, self.candidates)]
        return torch.cat([draw(jobs, shape), *others], dim=1)

    def split(self, learned: Float[Tensor, "b maps c h w"]) -> Float[Tensor, "rows n c h w"]:
        """The noises in what is learned, in the order of `Loss.outcome`."""
        return torch.cat(learned.chunk(self.candidates, dim=1))

    def moves(self, maps: int) -> Bool[Tensor, " maps"]:
        """Which of the learned maps move."""
        moving = torch.ones(self.candidates, maps // self.candidates, dtype=torch.bool)
        if self.noises == "initial":
            moving[:, :-1] = False
        return moving.flatten()

    def attempt(self, problem: Problem, noise: Noise, anchor: Trajectory | None) -> Outcome:
        """The attempts of the learned maps, as in `Loss.outcome`."""
        return problem.attempt(noise, self.measures(anchor), keep_eps=anchor is None)

    def answer(self, rewards: Float[Tensor, " rows"]) -> Int[Tensor, " b"]:
        """The row of `Loss.outcome` that every job would return: its noise of highest reward, the last on a tie."""
        by_candidate = rewards.view(self.candidates, -1)
        last_best = self.candidates - 1 - by_candidate.flip(0).argmax(dim=0)
        return last_best * by_candidate.shape[1] + torch.arange(by_candidate.shape[1], device=rewards.device)

    def optimizer(self, noise: torch.nn.Parameter, jobs: Sequence[Job]) -> torch.optim.Optimizer | None:
        """The method's own update rule; None where it takes the one that the fit is configured with."""
        return None

    def measures(self, anchor: Trajectory | None) -> Sequence[Measure]:
        """Row 0: the score energy S; row 1, once there is an anchor: the score difference to it."""
        if anchor is None or anchor.eps is None:
            return [ScoreEnergy()]
        return [ScoreEnergy(), ScoreDifference(anchor.eps)]
