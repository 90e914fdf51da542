"""FLUX draws what diffusers' pipeline draws from the same noise."""

from pathlib import Path

import pytest
import torch
from diffusers import FluxPipeline, FluxTransformer2DModel

from mira_pl.backbones import Flux, Text
from mira_pl.backbones.flux import pack, unpack
from mira_pl.noise import draw
from mira_pl.trajectory import sample
from mira_pl.types import Compute, Job


def flux(folder: Path, **options: float) -> Flux:
    return Flux(str(folder), **{"guidance": 3.5 if "dev" in folder.name else 1.0, **options})


@pytest.mark.parametrize("size", [8, 16])
@torch.no_grad()
def test_images_are_those_of_the_diffusers_pipeline(tiny_flux: Path, jobs: list[Job], size: int) -> None:
    backbone = flux(tiny_flux, steps=5, size=size)
    noise = draw(jobs, backbone.noise_shape)
    path = sample(backbone, backbone.encode([job.prompt for job in jobs]), noise)
    pipeline = FluxPipeline.from_pretrained(tiny_flux)
    pipeline.set_progress_bar_config(disable=True)
    x = noise[:, -1]
    expected = pipeline(
        [job.prompt for job in jobs], latents=FluxPipeline._pack_latents(x, *x.shape), num_inference_steps=5,
        guidance_scale=backbone.scale, height=size, width=size, max_sequence_length=backbone.longest, output_type="pt",
    ).images  # fmt: skip
    torch.testing.assert_close((path.images / 2 + 0.5).clamp(0, 1), expected, atol=1e-5, rtol=1e-5)
    assert path.images.std() > 0.01 and path.images.shape[-1] == size
    assert backbone.spent == Compute(unet=5, vae=1)


@torch.no_grad()
def test_prompts_are_encoded_as_by_the_pipeline(tiny_flux: Path) -> None:
    backbone, prompts = flux(tiny_flux, steps=2, size=8), ["a cat", "a red dog"]
    text = backbone.encode(prompts).positive
    pipeline = FluxPipeline.from_pretrained(tiny_flux)
    tokens, pooled, _ = pipeline.encode_prompt(prompts, max_sequence_length=backbone.longest)
    assert torch.equal(text.tokens, tokens) and torch.equal(text.pooled, pooled)
    assert backbone.longest == (512 if backbone.reads_guidance else 256)


def test_packing_is_that_of_the_pipeline() -> None:
    x = torch.arange(2 * 4 * 6 * 8.0).view(2, 4, 6, 8)
    assert torch.equal(pack(x), FluxPipeline._pack_latents(x, *x.shape))
    assert torch.equal(unpack(pack(x), 3), x)


@torch.no_grad()
def test_dev_reads_its_guidance(tiny_dev: Path) -> None:
    weak, strong = (Flux(str(tiny_dev), steps=2, guidance=scale, size=8) for scale in (1.0, 7.0))
    x = torch.randn(1, *weak.latent_shape, generator=torch.Generator().manual_seed(0))
    assert not torch.allclose(weak.eps(x, 1, weak.encode(["a cat"])), strong.eps(x, 1, strong.encode(["a cat"])))


def test_schnell_reads_none(tiny_schnell: Path) -> None:
    with pytest.raises(ValueError, match=r"reads no guidance scale: guidance must be 1, got 3\.5"):
        Flux(str(tiny_schnell), size=8)


@pytest.mark.parametrize("size", [0, 10])
def test_a_size_that_is_not_whole_patches_is_refused(tiny_flux: Path, size: int) -> None:
    with pytest.raises(ValueError, match=f"size must be a multiple of 4 pixels, got {size}"):
        flux(tiny_flux, size=size)


@pytest.mark.parametrize(("guidance_embeds", "parameters"), [(True, 11_901_408_320), (False, 11_891_178_560)])
def test_full_size_has_the_parameters_of_flux(guidance_embeds: bool, parameters: int) -> None:
    """The published configurations of dev and schnell, on the meta device."""
    with torch.device("meta"):
        backbone = object.__new__(Flux)
        backbone.denoiser = FluxTransformer2DModel(guidance_embeds=guidance_embeds)
        backbone.reads_guidance, backbone.scale, backbone.ids = guidance_embeds, 3.5, torch.zeros(4096, 3)
        text = Text(torch.zeros(1, 512, 4096), torch.zeros(1, 768))
        output = backbone.run(torch.zeros(1, 16, 128, 128), torch.zeros(1), text)
    assert sum(parameter.numel() for parameter in backbone.denoiser.parameters()) == parameters
    assert output.shape == (1, 16, 128, 128)
