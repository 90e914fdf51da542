"""DNO: plain reward ascent on the noises, with the probability regulariser PRNO (Tang et al. 2024)."""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from ..backbones.base import Backbone
from ..problem import Problem
from ..ranges import not_negative
from ..trajectory import Trajectory
from ..types import Noise, PerJob
from .base import NOTHING, Learned, Loss, Memory, Objective


@dataclass(frozen=True)
class DNO(Objective):
    """L = -r + gamma * PRNO.

    Attributes:
        gamma: weight of the regulariser; 0, the default of the public code, is plain reward ascent.
        subsample: k = 4 ** subsample numbers form a row of the regulariser; 1 is the public default.
        permutations: random permutations averaged over, 100 in the public code.
        opt_time: gradients reach the last opt_time + 1 steps only, and x_T only where opt_time is T; None is T. The
            public code has 50, which is its T.
        noises: `trajectory` or, for deterministic samplers, `initial`.
    """

    gamma: float = 0.0
    subsample: int = 1
    permutations: int = 100
    opt_time: int | None = None
    noises: Learned = "trajectory"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.gamma < 0:
            raise ValueError(f"gamma must be at least 0, got {self.gamma}; 0 turns the regulariser off")
        not_negative(subsample=self.subsample, permutations=self.permutations)

    def check_noise(self, backbone: Backbone) -> None:
        maps, *size = backbone.noise_shape
        if self.opt_time is not None and not 0 <= self.opt_time < maps:
            raise ValueError(f"opt_time must be in 0..{maps - 1} (T), got {self.opt_time}")
        if self.opt_time not in (None, maps - 1) and (self.noises == "initial" or not backbone.schedule.stochastic):
            raise ValueError(
                f"opt_time {self.opt_time} leaves x_T alone, and nothing else is learned here: leave opt_time out, or "
                "learn the noises of the steps (noises trajectory, eta above 0)"
            )
        numbers, row = len(range(maps)[self._reached(backbone)]) * math.prod(size), 4**self.subsample
        if self.gamma > 0 and numbers % row:
            raise ValueError(f"a row length of {row} does not divide {numbers} numbers of noise: lower subsample")

    def loss(
        self, problem: Problem, noise: Noise, anchor: Trajectory | None, tick: int, memory: Memory = NOTHING
    ) -> Loss:
        steps = problem.backbone.schedule.steps
        learned = None if self.opt_time in (None, steps) else self.opt_time + 1
        outcome = problem.attempt(noise, self.measures(anchor), keep_eps=anchor is None, learned_steps=learned)
        value = -outcome.reward
        if self.gamma > 0:
            value = value + self.gamma * self._regulariser(problem, noise, tick)
        return Loss(value, outcome)

    def _regulariser(self, problem: Problem, noise: Noise, tick: int) -> PerJob:
        learned = noise[:, self._reached(problem.backbone)]
        rows = zip(problem.jobs, learned.flatten(1), strict=True)
        return torch.stack(
            [prno(z, 4**self.subsample, _permutations(z.numel(), self.permutations, job.seed, tick)) for job, z in rows]
        )

    def _reached(self, backbone: Backbone) -> slice:
        """The maps of noise that gradients reach."""
        if not backbone.schedule.stochastic or self.noises == "initial":
            return slice(-1, None)
        return slice(0, None if self.opt_time is None else self.opt_time + 1)


def _permutations(size: int, count: int, seed: int, tick: int) -> list[Tensor]:
    random = torch.Generator().manual_seed(seed * 1_000_003 + tick)
    return [torch.randperm(size, generator=random) for _ in range(count)]


def prno(z: Float[Tensor, " n"], k: int, permutations: list[Tensor]) -> Tensor:
    """-[log p1 + log p2] of z as it stands plus the mean of the same over permutations; at least 4 log 2.

    Args:
        z: the noise of one job.
        k: length of a row; must divide n.
        permutations: index tensors over n; none leaves the second term out.
    """
    total = torch.stack(log_bounds(z, k)).sum()
    if permutations:
        shuffled = [torch.stack(log_bounds(z[p.to(z.device)], k)).sum() for p in permutations]
        total = total + torch.stack(shuffled).mean()
    return -total


def log_bounds(z: Float[Tensor, " n"], k: int) -> tuple[Tensor, Tensor]:
    """Log concentration bounds on mean and covariance of the rows, clamped at -log 2: no gradient for typical noise."""
    if z.numel() % k:
        raise ValueError(f"a row length of {k} does not divide {z.numel()} numbers of noise: lower subsample")
    mean, covariance = raw_log_bounds(z, k)
    ceiling = -math.log(2)
    return mean.clamp(max=ceiling), covariance.clamp(max=ceiling)


def raw_log_bounds(z: Float[Tensor, " n"], k: int) -> tuple[Tensor, Tensor]:
    """The same before the clamp (Tang et al. 2024, lemma 2)."""
    rows = z.view(-1, k)
    m = len(rows)
    mean = rows.mean(dim=0).norm()
    identity = torch.eye(k, dtype=z.dtype, device=z.device)
    spread = torch.linalg.matrix_norm(rows.T @ rows / m - identity, ord=2)
    excess = (torch.sqrt(1 + spread) - 1 - math.sqrt(k / m)).clamp(min=0)
    return -m * mean**2 / (2 * k), -m * excess**2 / 2
