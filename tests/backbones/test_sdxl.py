"""SDXL draws what diffusers' pipeline draws from the same seeds."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import DDIMScheduler, EulerAncestralDiscreteScheduler, LCMScheduler, StableDiffusionXLPipeline

from benchmarks.architectures import unet_xl
from mira_pl.backbones import SDXL
from mira_pl.noise import draw
from mira_pl.trajectory import sample
from mira_pl.types import Compute, Job


def theirs(folder: Path, jobs: list[Job], scheduler: type, steps: int, guidance: float, **options: Any) -> torch.Tensor:
    pipeline = StableDiffusionXLPipeline.from_pretrained(folder, add_watermarker=False)
    pipeline.scheduler = scheduler.from_config(pipeline.scheduler.config)
    pipeline.set_progress_bar_config(disable=True)
    random = [torch.Generator().manual_seed(job.seed) for job in jobs]
    size = {"height": 8, "width": 8, "num_inference_steps": steps, "guidance_scale": guidance, "output_type": "pt"}
    return pipeline([job.prompt for job in jobs], generator=random, **size, **options).images


def ours(backbone: SDXL, jobs: list[Job]) -> torch.Tensor:
    path = sample(backbone, backbone.encode([job.prompt for job in jobs]), draw(jobs, backbone.noise_shape))
    return (path.images / 2 + 0.5).clamp(0, 1)


@pytest.mark.parametrize("guidance", [5.0, 1.0])
@pytest.mark.parametrize("eta", [0.0, 1.0])
@torch.no_grad()
def test_images_are_those_of_the_diffusers_pipeline(
    tiny_sdxl: Path, jobs: list[Job], eta: float, guidance: float
) -> None:
    images = ours(SDXL(str(tiny_sdxl), steps=5, eta=eta, guidance=guidance), jobs)
    expected = theirs(tiny_sdxl, jobs, DDIMScheduler, 5, guidance, eta=eta)
    torch.testing.assert_close(images, expected, atol=1e-5, rtol=1e-5)
    assert images.std() > 0.01


@torch.no_grad()
def test_velocity_between_two_timesteps_of_training(tiny_sdxl: Path, tmp_path: Path, jobs: list[Job]) -> None:
    """Euler's evenly spaced timesteps are no whole numbers: the noise level is the schedule's, not a table's."""
    folder = tmp_path / "velocity"
    shutil.copytree(tiny_sdxl, folder)
    file = folder / "scheduler" / "scheduler_config.json"
    changes = {"prediction_type": "v_prediction", "timestep_spacing": "linspace"}
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))
    backbone = SDXL(str(folder), steps=5, guidance=1.0, sampler="euler_ancestral")
    assert any(timestep % 1 for timestep in backbone.schedule.timesteps)
    expected = theirs(folder, jobs, EulerAncestralDiscreteScheduler, 5, 1.0)
    torch.testing.assert_close(ours(backbone, jobs), expected, atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_turbo_is_one_step_without_guidance(tiny_sdxl: Path, jobs: list[Job]) -> None:
    backbone = SDXL(str(tiny_sdxl), steps=1, guidance=1.0, sampler="euler_ancestral")
    expected = theirs(tiny_sdxl, jobs, EulerAncestralDiscreteScheduler, 1, 0.0)
    torch.testing.assert_close(ours(backbone, jobs), expected, atol=1e-4, rtol=1e-4)
    assert backbone.spent == Compute(unet=1, vae=1) and not backbone.schedule.stochastic


@torch.no_grad()
def test_hyper_sd_in_one_step_is_consistency_sampling_at_its_timestep(tiny_sdxl: Path, jobs: list[Job]) -> None:
    """Hyper-SD's own call: LCMScheduler, timesteps=[800], no guidance; its multiplier of x_0 leaves 1e-6 of x_T."""
    backbone = SDXL(str(tiny_sdxl), guidance=1.0, one_step_at=800)
    expected = theirs(tiny_sdxl, jobs, LCMScheduler, 1, 0.0, timesteps=[800])
    torch.testing.assert_close(ours(backbone, jobs), expected, atol=1e-4, rtol=1e-4)
    assert backbone.spent == Compute(unet=1, vae=1)


def test_float16_leaves_a_vae_that_would_overflow_in_float32(tiny_sdxl: Path) -> None:
    backbone = SDXL(str(tiny_sdxl), steps=2, dtype="float16")
    assert backbone.vae.dtype == torch.float32 and backbone.denoiser.dtype == torch.float16
    other = SDXL(str(tiny_sdxl), steps=2, dtype="float16", vae=str(tiny_sdxl / "vae"))
    assert other.vae.dtype == torch.float16


def test_full_size_has_the_parameters_of_sdxl() -> None:
    """The published configuration of stable-diffusion-xl-base-1.0, on the meta device."""
    with torch.device("meta"):
        backbone = object.__new__(SDXL)
        backbone.denoiser, backbone.pixels = unet_xl(), 1024
        text = _text(tokens=(1, 77, 2048), pooled=(1, 1280))
        output = backbone.run(torch.zeros(1, 4, 128, 128), torch.zeros(1, dtype=torch.long), text)
    assert sum(parameter.numel() for parameter in backbone.denoiser.parameters()) == 2_567_463_684
    assert output.shape == (1, 4, 128, 128)


def _text(tokens: tuple[int, ...], pooled: tuple[int, ...]):
    from mira_pl.backbones import Text

    return Text(torch.zeros(*tokens), torch.zeros(*pooled))
