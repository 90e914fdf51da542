"""What one batch of jobs is while it is searched."""

from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor

from ..problem import Outcome
from ..searches import Found
from ..trajectory import Trajectory
from .state import BatchState


@dataclass(eq=False)
class SearchState(BatchState):
    """One batch in progress. `noise` draws the best image so far; at first that is the start, which any image beats.

    Attributes:
        result: path of the best image so far.
        rewards: of the start and of the best image, [2, b].
        merit: of the best image, minus infinity before one was found, [b].
    """

    trajectories: ClassVar[tuple[str, ...]] = ("anchor", "result")
    result: Trajectory | None = None
    rewards: Tensor = field(default_factory=lambda: torch.zeros(2, 0))
    merit: Tensor = field(default_factory=lambda: torch.zeros(0))

    def begin(self, start: Outcome) -> None:
        """The start as anchor and first result."""
        path = start.trajectory
        energies = torch.stack([path.energies[0], torch.zeros_like(path.energies[0])])
        self.anchor = path
        self.result = Trajectory(path.images, path.latents, energies, None)
        self.rewards = torch.stack([start.reward, start.reward])
        self.merit = torch.full_like(start.reward, -torch.inf)

    def take(self, found: Found) -> None:
        """Keep what was found, in the running jobs where it is better than all before."""
        best, new, reward = self.best.trajectory, found.outcome.trajectory, found.outcome.reward
        better = self.running & (found.merit > self.merit) & torch.isfinite(reward)
        rows = better.view(-1, 1, 1, 1)
        self.result = Trajectory(
            images=torch.where(rows, new.images, best.images),
            latents=torch.where(rows, new.latents, best.latents),
            energies=torch.where(better, new.energies, best.energies),
            eps=None,
        )
        self.rewards = torch.stack([self.rewards[0], torch.where(better, reward, self.rewards[1])])
        self.merit = torch.where(better, found.merit, self.merit)
        self.noise = torch.where(rows[..., None], found.noise, self.noise)

    @property
    def start(self) -> Outcome:
        """What the frozen model draws from the job's own noise."""
        return Outcome(self.begun, self.rewards[0])

    @property
    def best(self) -> Outcome:
        """The best so far."""
        if self.result is None:
            raise ValueError(f"batch {self.index} has no result before its start")
        return Outcome(self.result, self.rewards[1])
