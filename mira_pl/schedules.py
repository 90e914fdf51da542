"""Samplers other than DDIM as schedules of the same transition: no loop of their own."""

from typing import Any, Literal

import torch
from diffusers import DDIMScheduler, EulerAncestralDiscreteScheduler, LCMScheduler

from .diffusion import Schedule, ddim_sigmas

Sampler = Literal["ddim", "euler_ancestral", "lcm"]
LastSigma = Literal["keep", "zero"]


def make_schedule(
    config: dict[str, Any], sampler: Sampler, steps: int, eta: float = 1.0, last_sigma: LastSigma = "keep"
) -> Schedule:
    """The schedule of a sampler on the noise levels of a diffusers scheduler's configuration.

    Args:
        config: `scheduler.config` of any diffusers scheduler.
        sampler: `ddim` with eta (DDPM is eta 1); `euler_ancestral`, the default of SDXL-Turbo; `lcm`, of Hyper-SD.
        steps: T.
        eta: of DDIM.
        last_sigma: of DDIM, see `Schedule.from_scheduler`.
    """
    if sampler == "ddim":
        plain = {key: value for key, value in config.items() if key not in ("clip_sample", "timestep_spacing")}
        scheduler: Any = DDIMScheduler.from_config(plain, clip_sample=False)
        return Schedule.from_scheduler(scheduler, steps, eta, last_sigma)
    return euler_ancestral(config, steps) if sampler == "euler_ancestral" else lcm(config, steps)


def euler_ancestral(config: dict[str, Any], steps: int) -> Schedule:
    """Euler's ancestral sampler (Karras et al. 2022): DDIM with eta 1 on its grid, since abar = 1 / (1 + sigma^2)."""
    scheduler: Any = EulerAncestralDiscreteScheduler.from_config(config)
    scheduler.set_timesteps(steps)
    alpha = 1 / (1 + scheduler.sigmas.double() ** 2)
    start = float(scheduler.init_noise_sigma) * float(alpha[0]) ** 0.5
    levels, after = alpha[:-1], alpha[1:]
    sigmas = ddim_sigmas(levels, after, 1.0)
    return Schedule(tuple(scheduler.timesteps.tolist()), levels.float(), after.float(), sigmas.float(), start)


def lcm(config: dict[str, Any], steps: int) -> Schedule:
    """Consistency sampling (Luo et al. 2023): every step goes to x_0 and draws the noise of the next level anew."""
    scheduler: Any = LCMScheduler.from_config(config)
    scheduler.set_timesteps(steps)
    grid = scheduler.timesteps.tolist()
    alpha = scheduler.alphas_cumprod[grid]
    after = torch.cat([alpha[1:], torch.ones(1)])
    return Schedule(tuple(grid), alpha, after, (1 - after) ** 0.5)


def one_step(alphas_cumprod: torch.Tensor, timestep: int) -> Schedule:
    """x_0 as predicted at a timestep, as one-step students are sampled (PixArt-DMD at 400, Hyper-SD at 800).

    Raises:
        ValueError: no such timestep.
    """
    if not 0 <= timestep < len(alphas_cumprod):
        raise ValueError(f"one_step_at must be in 0..{len(alphas_cumprod) - 1}, got {timestep}")
    return Schedule((timestep,), alphas_cumprod[[timestep]], torch.ones(1), torch.zeros(1))
