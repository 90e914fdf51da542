"""The starting noise of a job is its own: and it is the one diffusers' pipelines draw from the same seed."""

import shutil
from pathlib import Path

import pytest
import torch
from diffusers import DDIMScheduler, StableDiffusionPipeline
from hypothesis import given, settings
from hypothesis import strategies as st

from mira_pl.backbones.analytic import sd_scheduler
from mira_pl.backbones.stable_diffusion import StableDiffusion
from mira_pl.noise import draw, redraw, stream
from mira_pl.trajectory import sample
from mira_pl.types import Job

SHAPE = (4, 2, 3, 3)


def job(seed: int) -> Job:
    return Job("a cat", seed, f"cat-{seed}")


@settings(deadline=None)
@given(st.lists(st.integers(0, 2**31), min_size=1, max_size=4))
def test_batch_equals_singles(seeds: list[int]) -> None:
    together = draw([job(seed) for seed in seeds], SHAPE)
    assert together.shape == (len(seeds), *SHAPE) and together.dtype == torch.float32
    assert torch.equal(together, torch.cat([draw([job(seed)], SHAPE) for seed in seeds]))


def test_order_is_that_of_sampling_with_x_t_last() -> None:
    random = torch.Generator().manual_seed(5)
    in_sampling_order = [torch.randn(1, *SHAPE[1:], generator=random) for _ in range(SHAPE[0])]
    (noise,) = draw([job(5)], SHAPE)
    assert torch.equal(noise[-1:], in_sampling_order[0])
    assert torch.equal(noise[0:1], in_sampling_order[-1])


def test_neither_prompt_nor_global_seed_nor_length_matters() -> None:
    first = draw([job(5)], SHAPE)
    torch.manual_seed(123)
    assert torch.equal(first, draw([Job("another", 5, "other")], SHAPE))
    assert torch.equal(first[:, -1], draw([job(5)], (9, *SHAPE[1:]))[:, -1])
    assert not torch.equal(first, draw([job(6)], SHAPE))


def test_further_noise_belongs_to_its_path_and_to_the_jobs_seed_alone() -> None:
    jobs = [job(5), job(6)]
    together = redraw(jobs, SHAPE, "direction", 3)
    assert torch.equal(together[1:], redraw(jobs[1:], SHAPE, "direction", 3))
    others = [draw(jobs, SHAPE), redraw(jobs, SHAPE, "direction", 4), redraw(jobs, SHAPE, "langevin", 3)]
    assert all(not torch.equal(together, other) for other in others)


@settings(deadline=None)
@given(st.integers(-(2**40), 2**40), st.lists(st.integers(0, 10**6) | st.text(max_size=5), max_size=3))
def test_a_stream_is_the_same_whenever_it_is_asked_for(seed: int, path: list[int | str]) -> None:
    first = torch.randn(3, generator=stream(seed, *path))
    assert torch.equal(first, torch.randn(3, generator=stream(seed, *path)))
    assert not torch.equal(first, torch.randn(3, generator=stream(seed, *path, 0)))


@pytest.fixture(scope="module", params=["epsilon", "v_prediction"])
def folder(tiny_sd: Path, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Path:
    """The tiny model, its output read as the noise or as the velocity."""
    copy = tmp_path_factory.mktemp(request.param) / "model"
    shutil.copytree(tiny_sd, copy)
    sd_scheduler(request.param).save_pretrained(copy / "scheduler")
    return copy


@pytest.fixture(scope="module")
def pipeline(folder: Path) -> StableDiffusionPipeline:
    loaded = StableDiffusionPipeline.from_pretrained(folder, safety_checker=None, requires_safety_checker=False)
    assert isinstance(loaded.scheduler, DDIMScheduler)
    loaded.set_progress_bar_config(disable=True)
    return loaded


@pytest.mark.parametrize("guidance", [5.0, 1.0])
@pytest.mark.parametrize("eta", [0.0, 1.0])
@torch.no_grad()
def test_images_are_those_of_the_diffusers_pipeline(
    pipeline: StableDiffusionPipeline, folder: Path, jobs: list[Job], eta: float, guidance: float
) -> None:
    backbone = StableDiffusion(str(folder), steps=6, eta=eta, guidance=guidance)
    path = sample(backbone, backbone.encode([j.prompt for j in jobs]), draw(jobs, backbone.noise_shape))

    def theirs(output_type: str) -> torch.Tensor:
        random = [torch.Generator().manual_seed(j.seed) for j in jobs]
        size = {"height": 8, "width": 8, "num_inference_steps": 6}
        options = {"guidance_scale": guidance, "eta": eta, "output_type": output_type}
        return pipeline([j.prompt for j in jobs], generator=random, **size, **options).images

    torch.testing.assert_close(path.latents, theirs("latent"), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close((path.images / 2 + 0.5).clamp(0, 1), theirs("pt"), atol=1e-5, rtol=1e-5)
    assert path.images.shape == (3, 3, 8, 8) and path.images.std() > 0.01
