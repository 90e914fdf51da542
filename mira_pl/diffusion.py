"""All diffusion maths: the schedule, the reverse transition and its Gaussian. Pure functions of tensors."""

import math
from dataclasses import dataclass
from typing import Any, Literal

import torch
from diffusers import DDIMScheduler
from jaxtyping import Float
from torch import Tensor

from .types import Latents, PerJob


@dataclass(frozen=True, eq=False)
class Schedule:
    """A grid of T reverse steps; step 0 is the first one, at the highest noise level.

    Attributes:
        timesteps: training timestep of every step, descending, [T].
        alpha: cumulative signal share abar at every step, fp32, on the CPU, [T]; flows begin at 0, pure noise.
        alpha_prev: abar after every step, [T].
        sigmas: std of the noise injected at every step, [T]; 0 is a deterministic step.
        start: std of x_T; samplers whose first noise level is finite begin slightly below 1.
    """

    timesteps: tuple[int | float, ...]
    alpha: Float[Tensor, " T"]
    alpha_prev: Float[Tensor, " T"]
    sigmas: Float[Tensor, " T"]
    start: float = 1.0

    @staticmethod
    def from_scheduler(
        scheduler: DDIMScheduler, steps: int, eta: float, last_sigma: Literal["keep", "zero"] = "keep"
    ) -> "Schedule":
        """The grid that diffusers' DDIM would run (Song et al. 2021, eq. 16).

        Args:
            scheduler: gives the noise levels.
            steps: T.
            eta: 0 is deterministic DDIM, 1 ancestral sampling, as in DDPM.
            last_sigma: `keep` is diffusers' small noise at the last step; `zero` is the public DNO code's.
        """
        config: Any = scheduler.config
        longest = config.num_train_timesteps - config.steps_offset
        check_grid(steps, longest, eta)
        scheduler.set_timesteps(steps)
        stride = config.num_train_timesteps // steps
        grid = tuple(int(t) for t in scheduler.timesteps)
        after = [scheduler.alphas_cumprod[t - stride] if t >= stride else scheduler.final_alpha_cumprod for t in grid]
        alpha, alpha_prev = scheduler.alphas_cumprod[list(grid)], torch.stack(after)
        sigmas = ddim_sigmas(alpha, alpha_prev, eta)
        if last_sigma == "zero":
            sigmas[-1] = 0
        return Schedule(grid, alpha, alpha_prev, sigmas)

    @property
    def steps(self) -> int:
        """T."""
        return len(self.timesteps)

    @property
    def stochastic(self) -> bool:
        """Whether any step injects noise."""
        return bool((self.sigmas > 0).any())


def check_grid(steps: int, longest: int, eta: float) -> None:
    """Refuse a number of steps or a noise that no DDIM grid has."""
    if not 1 <= steps <= longest:
        raise ValueError(f"steps must be in 1..{longest}, got {steps}")
    if not 0 <= eta <= 1:
        raise ValueError(f"eta must be in [0, 1], got {eta}; 0 is DDIM, 1 is DDPM-like sampling")


def ddim_sigmas(alpha: Float[Tensor, " T"], alpha_prev: Float[Tensor, " T"], eta: float) -> Float[Tensor, " T"]:
    """Std of the noise injected at every step (Song et al. 2021, eq. 16)."""
    return eta * ((1 - alpha_prev) / (1 - alpha) * (1 - alpha / alpha_prev)) ** 0.5


@dataclass(frozen=True, eq=False)
class Gaussian:
    """An isotropic Gaussian with a mean per element and one standard deviation, possibly 0."""

    mean: Latents
    std: Tensor

    def sample(self, noise: Latents) -> Latents:
        """mean + std * noise."""
        return self.mean + self.std * noise

    def log_prob(self, x: Latents, reduction: Literal["sum", "mean"] = "sum") -> PerJob:
        """Log-density of x, summed or averaged over latent dimensions. Needs std > 0."""
        _need_noise(self.std, "log_prob")
        per_element = -((x - self.mean) ** 2) / (2 * self.std**2) - torch.log(self.std) - 0.5 * math.log(2 * math.pi)
        flat = per_element.flatten(1)
        return flat.sum(dim=1) if reduction == "sum" else flat.mean(dim=1)

    def score(self, x: Latents) -> Latents:
        """Gradient of the log-density at x. Needs std > 0."""
        _need_noise(self.std, "score")
        return (self.mean - x) / self.std**2


def _need_noise(std: Tensor, what: str) -> None:
    if not bool((std > 0).all()):
        raise ValueError(
            f"{what} needs a noisy transition, but its std is 0: use a sampler with noise (eta > 0, last_sigma keep)"
        )


@dataclass(frozen=True, eq=False)
class Prediction:
    """The two parts that a denoiser sees in x = sqrt(abar) x_0 + sqrt(1 - abar) eps.

    Either gives the other as long as 0 < abar < 1. At abar = 0, where flows begin, x is the noise and says nothing of
    x_0: only the model does.
    """

    eps: Latents
    x0: Latents


def from_noise(x: Latents, eps: Latents, alpha: Tensor) -> Prediction:
    """What a predicted noise says of x; needs abar > 0."""
    return Prediction(eps, (x - (1 - alpha) ** 0.5 * eps) / alpha**0.5)


def from_velocity(x: Latents, v: Latents, alpha: Tensor) -> Prediction:
    """What a predicted v = sqrt(abar) eps - sqrt(1 - abar) x_0 says of x (Salimans and Ho 2022)."""
    signal, noise = alpha**0.5, (1 - alpha) ** 0.5
    return Prediction(signal * v + noise * x, signal * x - noise * v)


def transition(prediction: Prediction, schedule: Schedule, step: int) -> Gaussian:
    """p(x_prev | x) of DDIM: the same arithmetic, in the same order, as diffusers' `DDIMScheduler.step`."""
    alpha_prev, sigma = schedule.alpha_prev[step], schedule.sigmas[step]
    # Where all of the next level's noise is injected (consistency sampling), rounding may leave less than 0.
    direction = (1 - alpha_prev - sigma**2).clamp(min=0) ** 0.5 * prediction.eps
    return Gaussian(alpha_prev**0.5 * prediction.x0 + direction, sigma)
