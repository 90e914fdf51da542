"""What is to be solved, and what one attempt gave."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from .backbones.base import Backbone, Condition
from .drift import Measure, denoising_loss
from .rewards.base import Reward
from .trajectory import Engine, Trajectory, sample
from .types import Job, Latents, Noise, PerJob


@dataclass(frozen=True, eq=False)
class Outcome:
    """Images of one attempt and their rewards."""

    trajectory: Trajectory
    reward: PerJob

    def detach(self) -> "Outcome":
        """The same values, cut from the graph."""
        return Outcome(self.trajectory.detach(), self.reward.detach())

    def rows(self, index: Tensor) -> "Outcome":
        """The attempts of the given rows."""
        return Outcome(self.trajectory.rows(index), self.reward[index])

    def then(self, other: "Outcome") -> "Outcome":
        """These attempts, then the other ones."""
        return Outcome(self.trajectory.then(other.trajectory), torch.cat([self.reward, other.reward]))


@dataclass(frozen=True, eq=False)
class Problem:
    """A batch of jobs with the frozen model and the reward they are solved for.

    Attributes:
        backbone: the frozen model.
        reward: what is to go up.
        jobs: the prompt-seeds.
        condition: their encoded prompts.
        engine: how gradients travel through the sampler.
        clip: CLIPScore, for the methods that optimise by it too; None where none is configured.
    """

    backbone: Backbone
    reward: Reward
    jobs: Sequence[Job]
    condition: Condition
    engine: Engine = field(default_factory=Engine)
    clip: Reward | None = None

    @staticmethod
    def of(backbone: Backbone, reward: Reward, jobs: Sequence[Job], engine: Engine | None = None) -> "Problem":
        """Encodes the prompts, once."""
        return Problem(backbone, reward, jobs, backbone.encode([job.prompt for job in jobs]), engine or Engine())

    @property
    def prompts(self) -> list[str]:
        """One prompt a job."""
        return [job.prompt for job in self.jobs]

    def repeat(self, times: int) -> "Problem":
        """Every job `times` times, in the order (all jobs), (all jobs), ..."""
        return replace(self, jobs=list(self.jobs) * times, condition=self.condition.repeat(times))

    def attempt(
        self, noise: Noise, measures: Sequence[Measure] = (), keep_eps: bool = False, learned_steps: int | None = None
    ) -> Outcome:
        """Sample and score; gradients flow from the reward to the noise."""
        path = sample(self.backbone, self.condition, noise, measures, self.engine, keep_eps, learned_steps)
        return Outcome(path, self.reward.score(path.images, self.prompts))

    def denoising_loss(self, latents: Latents, pairs: int) -> PerJob:
        """The frozen model's own loss at clean latents, see `drift.denoising_loss`."""

        def predict(x: Latents, timestep):
            return self.backbone.denoise(x, timestep, self.condition)

        return denoising_loss(predict, self.backbone.alpha, latents, pairs)
