"""A search: images of higher reward by choosing among draws or by steering the sampler, with no noise learned."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

from ..backbones.base import Backbone
from ..problem import Outcome, Problem
from ..rewards.base import Reward, need_gradient
from ..types import Noise, PerJob


@dataclass(frozen=True, eq=False)
class Found:
    """What one round gave, one image a job.

    Attributes:
        outcome: the image, its reward, and the energies of its path: S in row 0, the score difference to the start in
            row 1. Its predicted noises are not kept.
        noise: what the frozen model draws this image from; not finite where a step without noise was steered.
        merit: what rounds are compared by: the reward, less what the method penalises.
        ess: least effective number of particles in this round, 1 for a method without particles.
    """

    outcome: Outcome
    noise: Noise
    merit: PerJob
    ess: PerJob


class Search(ABC):
    """A frozen dataclass whose fields are the method's hyper-parameters.

    Rounds hang on nothing but the job and their number, so that a killed search goes on at any of them. Round 0 of a
    job draws its first particle from the noise of the job's seed.

    Attributes:
        rounds: how often the search is repeated with noise of its own; the image of highest merit is kept.
        needs_gradient: whether the reward must carry gradients.
        needs_noise: whether the sampler must inject noise along the chain.
        uses_start: whether the image drawn from the job's own noise is part of the method, and so of its cost.
    """

    rounds: int
    needs_gradient: ClassVar[bool] = False
    needs_noise: ClassVar[bool] = False
    uses_start: ClassVar[bool] = False

    @property
    def name(self) -> str:
        """What logs and records call this method."""
        return type(self).__name__

    @abstractmethod
    def solve(self, problem: Problem, noise: Noise, start: Outcome, index: int) -> Found:
        """Round `index`, without gradient.

        Args:
            problem: what is to be solved.
            noise: of the jobs' seeds, [b, T + 1, c, h, w].
            start: what the frozen model draws from it, its predicted noises kept.
            index: of the round, from 0.
        """

    def check(self, backbone: Backbone, reward: Reward) -> None:
        """Refuse a model or a reward that this search cannot work with.

        Raises:
            ValueError: says which, and the way out.
        """
        if self.needs_gradient:
            need_gradient(self.name, reward, "a search by values alone (BestOfN, FK, CoDe)")
        if self.needs_noise:
            need_noise(self.name, backbone)


def need_noise(name: str, backbone: Backbone) -> None:
    """Refuse a sampler whose copies of one particle could never part."""
    schedule = backbone.schedule
    if schedule.steps < 2 or not schedule.stochastic:
        held = "one step" if schedule.steps < 2 else "no noise in its steps"
        raise ValueError(
            f"{name} chooses among draws of the sampler's noise, but this sampler has {held}: "
            "raise model.backbone.steps and eta, or take BestOfN with independent starts"
        )
