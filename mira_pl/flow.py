"""Rectified flow as the variance-preserving chain that everything else samples (Liu et al. 2023; Esser et al. 2024).

A flow mixes x_s = (1 - s) x_0 + s eps and its network predicts v = eps - x_0. Divided by n(s) = sqrt((1 - s)^2 + s^2),
x_s is sqrt(abar) x_0 + sqrt(1 - abar) eps with abar = (1 - s)^2 / n^2, so it needs no sampler of its own:

- v gives both parts, eps = x_s + (1 - s) v and x_0 = x_s - s v;
- DDIM with eta 0 is Euler's step of the flow's ODE, x_s + (s' - s) v = (1 - s') x_0 + s' eps; with eta > 0 part of
  eps is drawn anew, at the same marginals;
- at both ends n = 1: x_T, at s = 1, is the plain noise, and the last latents are the model's own;
- the score of x_s is -eps / s, that of the rescaled latents n times as large: what `drift.ScoreEnergy` sums with
  marginal weights is s^2 ||score||^2 = ||eps||^2 = ||x_s + (1 - s) v||^2 on either scale.
"""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from .diffusion import Prediction, Schedule, check_grid, ddim_sigmas
from .types import Latents

TRAINING_STEPS = 1000


def signal_share(s: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
    """abar at times s of the flow, 0 (data) to 1 (noise)."""
    return (1 - s) ** 2 / ((1 - s) ** 2 + s**2)


def training_levels() -> Float[Tensor, "1001"]:
    """abar at the timesteps 0..1000 that flows count their time in, t = 1000 s."""
    return signal_share(torch.arange(TRAINING_STEPS + 1, dtype=torch.float64) / TRAINING_STEPS).float()


def to_flow(x: Latents, alpha: Tensor) -> Latents:
    """Latents on the flow's own scale: times n = 1 / (sqrt(abar) + sqrt(1 - abar))."""
    return x / (alpha**0.5 + (1 - alpha) ** 0.5)


def from_flow(x: Latents, v: Latents, alpha: Tensor) -> Prediction:
    """What a velocity v = eps - x_0 of the flow says of the rescaled latents x; exact at abar = 0."""
    signal, noise = alpha**0.5, (1 - alpha) ** 0.5
    return Prediction((x + signal * v) / (signal + noise), (x - noise * v) / (signal + noise))


def flow_schedule(scheduler: Any, steps: int, eta: float, tokens: int, times: list[float] | None = None) -> Schedule:
    """The grid that diffusers' flow scheduler would run, from s = 1 to 0.

    Args:
        scheduler: a `FlowMatchEulerDiscreteScheduler`; gives the shift of the times, fixed or by the picture's size.
        steps: T.
        eta: 0 is Euler's method, 1 ancestral sampling.
        tokens: latent tokens of a picture, for the shift by size.
        times: s of every step before the shift; None is the scheduler's own even grid.
    """
    check_grid(steps, TRAINING_STEPS, eta)
    config, mu = scheduler.config, None
    if config.use_dynamic_shifting:  # FLUX dev: mu grows with the tokens, in a straight line
        slope = (config.max_shift - config.base_shift) / (config.max_image_seq_len - config.base_image_seq_len)
        mu = config.base_shift + slope * (tokens - config.base_image_seq_len)
    scheduler.set_timesteps(steps, sigmas=times, mu=mu)
    alpha = signal_share(scheduler.sigmas.double())
    sigmas = ddim_sigmas(alpha[:-1], alpha[1:], eta)
    return Schedule(tuple(scheduler.timesteps.tolist()), alpha[:-1].float(), alpha[1:].float(), sigmas.float())
