"""Other samplers are schedules of the one transition: they draw what diffusers' own steps draw."""

import pytest
import torch
from diffusers import DDPMScheduler, EulerAncestralDiscreteScheduler, LCMScheduler

from mira_pl.backbones.analytic import sd_scheduler
from mira_pl.diffusion import from_noise, transition
from mira_pl.schedules import make_schedule, one_step

SHAPE = (2, 4, 3, 3)
CONFIG = dict(sd_scheduler().config)


def randn(random: torch.Generator) -> torch.Tensor:
    return torch.randn(*SHAPE, generator=random)


def twins(seed: int) -> tuple[torch.Generator, torch.Generator]:
    return torch.Generator().manual_seed(seed), torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("spacing", ["trailing", "leading", "linspace"])
@pytest.mark.parametrize("steps", [1, 4, 20])
def test_euler_ancestral(steps: int, spacing: str) -> None:
    theirs = EulerAncestralDiscreteScheduler.from_config(CONFIG | {"timestep_spacing": spacing})
    theirs.set_timesteps(steps)
    ours = make_schedule(CONFIG | {"timestep_spacing": spacing}, "euler_ancestral", steps)
    left, right = twins(1)
    model = torch.Generator().manual_seed(2)
    first = randn(model)
    variance_exploding, x = first * theirs.init_noise_sigma, first * ours.start
    assert ours.timesteps == tuple(theirs.timesteps.tolist())
    for step, timestep in enumerate(theirs.timesteps):
        torch.testing.assert_close(x, theirs.scale_model_input(variance_exploding, timestep), atol=1e-4, rtol=1e-4)
        eps = randn(model)
        variance_exploding = theirs.step(eps, timestep, variance_exploding, generator=left).prev_sample
        x = transition(from_noise(x, eps, ours.alpha[step]), ours, step).sample(randn(right))
    torch.testing.assert_close(x, variance_exploding, atol=2e-4, rtol=1e-4)  # the last level is 0: no scaling is left


@pytest.mark.parametrize("steps", [1, 2, 4])
def test_lcm(steps: int) -> None:
    """diffusers' step mixes in 0.25 / ((10 t)^2 + 0.25) of x, which is below 1e-4 for every t >= 5."""
    theirs = LCMScheduler.from_config(CONFIG)
    theirs.set_timesteps(steps)
    ours = make_schedule(CONFIG, "lcm", steps)
    left, right = twins(3)
    x = expected = randn(torch.Generator().manual_seed(4))
    model = torch.Generator().manual_seed(5)
    for step, timestep in enumerate(theirs.timesteps):
        eps = randn(model)
        expected = theirs.step(eps, timestep, expected, generator=left, return_dict=False)[0]
        x = transition(from_noise(x, eps, ours.alpha[step]), ours, step).sample(randn(right))
    torch.testing.assert_close(x, expected, atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("steps", [5, 50])
def test_ddpm_is_ddim_with_eta_1(steps: int) -> None:
    theirs = DDPMScheduler.from_config(CONFIG | {"steps_offset": 0, "clip_sample": False})
    theirs.set_timesteps(steps)
    ours = make_schedule(CONFIG | {"steps_offset": 0, "set_alpha_to_one": True}, "ddim", steps)
    left, right = twins(6)
    x = expected = randn(torch.Generator().manual_seed(7))
    model = torch.Generator().manual_seed(8)
    for step, timestep in enumerate(theirs.timesteps):
        eps = randn(model)
        expected = theirs.step(eps, timestep, expected, generator=left).prev_sample
        x = transition(from_noise(x, eps, ours.alpha[step]), ours, step).sample(randn(right))
    torch.testing.assert_close(x, expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("timestep", [400, 800])
def test_one_step_is_the_predicted_x0(timestep: int) -> None:
    theirs = DDPMScheduler(beta_start=0.0001, beta_end=0.02, beta_schedule="linear", clip_sample=False)
    random = torch.Generator().manual_seed(9)
    x, eps = randn(random), randn(random)
    expected = theirs.step(eps, timestep, x).pred_original_sample
    ours = one_step(theirs.alphas_cumprod, timestep)
    last = transition(from_noise(x, eps, ours.alpha[0]), ours, 0)
    assert last.std == 0
    torch.testing.assert_close(last.mean, expected)


def test_a_single_deterministic_step_injects_nothing() -> None:
    assert not make_schedule(CONFIG | {"timestep_spacing": "trailing"}, "euler_ancestral", 1).stochastic
    assert make_schedule(CONFIG, "lcm", 4).stochastic
