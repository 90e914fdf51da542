"""How far a trajectory has moved from the one it started as: the score energy of eq. 4 and its rivals.

A `Measure` gives every sampling step a number a job; the trajectory sums them. Sums over steps and means over latent
dimensions, so that one beta has one scale at every resolution.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from .diffusion import Gaussian, Schedule
from .types import Latents, PerJob

Penalty = Literal["signed", "reversed", "abs", "squared", "hinge"]
TRAINING_STEPS = 1000


@runtime_checkable
class Measure(Protocol):
    """One number a job for every step of a trajectory."""

    def step(
        self, schedule: Schedule, step: int, x: Latents, eps: Latents, gaussian: Gaussian, noise: Latents
    ) -> PerJob:
        """The share of `step`, at latents x with predicted noise eps, before `noise` is injected."""
        ...


@dataclass(frozen=True)
class ScoreEnergy:
    """S = sum_t w_t ||s(x_t)||^2 (MIRA, eq. 4). What it is in the variables of a rectified flow: see `mira_pl.flow`.

    Attributes:
        score: `network`: s = -eps / sqrt(1 - abar). `transition`: s = -(x_prev - mean) / sigma^2, so that with the
            `ddim` weights the term is ||noise||^2 and never looks at the network (MIRA, eq. 22-23).
        weights: `marginal`: w_t = 1 - abar_t, defined for deterministic and one-step samplers. `ddim`: w_t = sigma_t^2.
    """

    score: Literal["network", "transition"] = "network"
    weights: Literal["marginal", "ddim"] = "marginal"

    def step(
        self, schedule: Schedule, step: int, x: Latents, eps: Latents, gaussian: Gaussian, noise: Latents
    ) -> PerJob:
        beta, variance = 1 - schedule.alpha[step], gaussian.std**2
        weight = beta if self.weights == "marginal" else variance
        if self.score == "network":
            return (weight / beta) * _mean_square(eps)
        if not bool(variance > 0):
            return torch.zeros_like(_mean_square(noise))  # a step without noise has no transition density
        return (weight / variance) * _mean_square(noise)


@dataclass(frozen=True, eq=False)
class ScoreDifference:
    """sum_t ||eps(x_t) - eps(x_t of the anchor)||^2: the two-path form of the KL between sampling chains.

    Attributes:
        anchor: predicted noises of the starting trajectory, in sampling order, detached, [T, b, c, h, w].
    """

    anchor: Float[Tensor, "T b c h w"]

    def step(
        self, schedule: Schedule, step: int, x: Latents, eps: Latents, gaussian: Gaussian, noise: Latents
    ) -> PerJob:
        return _mean_square(eps - self.anchor[step])


def surrogate(anchor: PerJob, energy: PerJob) -> PerJob:
    """S_0 - S of eq. 4 and 7; 0 at the starting noise."""
    return anchor - energy


def penalise(drift: PerJob, form: Penalty) -> PerJob:
    """A reading of the surrogate S_0 - S as something to minimise.

    `signed` is eq. 4 to the letter and unbounded below; `reversed` is S - S_0; `hinge` is max(0, S_0 - S).
    """
    forms = {
        "signed": lambda d: d,
        "reversed": torch.neg,
        "abs": torch.abs,
        "squared": torch.square,
        "hinge": torch.relu,
    }
    return forms[form](drift)


def _mean_square(values: Tensor) -> PerJob:
    return values.square().flatten(1).mean(dim=1)


def denoising_loss(
    predict: Callable[[Latents, Tensor], Latents], alpha: Callable[[Tensor], Tensor], x0: Latents, pairs: int
) -> PerJob:
    """The model's own training loss at x0: mean square error of the predicted noise, averaged over latent dimensions.

    The rise of this loss over that of the starting image is the ELBO measure: how much less likely the frozen model
    finds the new image under its prompt (Kingma et al. 2021, up to weights).

    Args:
        predict: conditional noise prediction of noisy latents at training timesteps [b].
        alpha: abar at training timesteps.
        x0: clean latents.
        pairs: number of fixed (timestep, noise) pairs: timesteps evenly spaced over 0..1000, noises of seeds 0, 1, ...
    """
    total = x0.new_zeros(len(x0))
    for index in range(pairs):
        timestep = torch.full((len(x0),), int((index + 0.5) / pairs * TRAINING_STEPS), device=x0.device)
        noise = torch.randn(x0.shape[1:], generator=torch.Generator().manual_seed(index)).to(x0)
        level = alpha(timestep).view(-1, 1, 1, 1).to(x0.dtype)
        total = total + _mean_square(predict(level.sqrt() * x0 + (1 - level).sqrt() * noise, timestep) - noise)
    return total / pairs
