"""Attention maps are those that the U-Net computes with, and reading them changes nothing."""

from pathlib import Path

import pytest
import torch
from diffusers.models.attention_processor import Attention as Layer
from torch import Tensor

from mira_pl.backbones import SDXL, MixtureBackbone, StableDiffusion
from mira_pl.backbones.attention import Reader, Readings, quarter, reading, sides
from mira_pl.types import Compute

PROMPTS = ["a cat and a red dog", "a fox", ""]


def randn(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def backbone(tiny_sd: Path) -> StableDiffusion:
    return StableDiffusion(str(tiny_sd), steps=3)


@pytest.mark.parametrize("heads", [1, 2])
def test_a_map_times_the_values_is_the_layers_output(heads: int) -> None:
    """Of two heads the mean map is read, so what comes after the maps is made equal in both."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        layer = Layer(query_dim=8, cross_attention_dim=6, heads=heads, dim_head=4)
        pixels, words = randn(2, 9, 8), randn(2, 5, 6)
    with torch.no_grad():
        layer.to_v.weight.copy_(layer.to_v.weight[:4].repeat(heads, 1))
        layer.to_out[0].weight.copy_(layer.to_out[0].weight[:, :4].repeat(1, heads))
    plain, readings = layer(pixels, words), Readings()
    layer.set_processor(Reader(layer.get_processor(), 9, readings))
    assert torch.equal(layer(pixels, words), plain)
    (seen,) = readings.cross
    torch.testing.assert_close(seen.sum(dim=2), torch.ones(2, 9))
    values = (seen @ layer.to_v(words)[..., :4]).repeat(1, 1, heads)
    torch.testing.assert_close(layer.to_out[0](values), plain)


@torch.no_grad()
def test_the_prediction_is_bit_equal_and_nothing_stays_behind(backbone: StableDiffusion) -> None:
    x, condition = randn(3, 4, 4, 4), backbone.encode(PROMPTS)
    before = backbone.denoiser.attn_processors
    eps, maps = backbone.eps_and_attention(x, 1, condition)
    timestep = torch.full((3,), backbone.schedule.timesteps[1])
    assert torch.equal(eps, backbone.denoise(x, timestep, condition))
    after = backbone.denoiser.attn_processors
    assert before.keys() == after.keys() and all(before[name] is after[name] for name in before)
    assert maps.cross.shape == (3, 4, 24) and maps.own.shape == (3, 4, 4)
    torch.testing.assert_close(maps.cross.sum(dim=2), torch.ones(3, 4))
    torch.testing.assert_close(maps.own.sum(dim=2), torch.ones(3, 4))


def test_nothing_stays_behind_after_a_failure(backbone: StableDiffusion) -> None:
    before = backbone.denoiser.attn_processors
    with pytest.raises(KeyError), reading(backbone.denoiser, 4):
        raise KeyError
    after = backbone.denoiser.attn_processors
    assert all(before[name] is after[name] for name in before)


@torch.no_grad()
def test_batch_equals_singles(backbone: StableDiffusion) -> None:
    x = randn(3, 4, 4, 4)
    _, together = backbone.eps_and_attention(x, 0, backbone.encode(PROMPTS))
    for row, prompt in enumerate(PROMPTS):
        _, alone = backbone.eps_and_attention(x[row : row + 1], 0, backbone.encode([prompt]))
        torch.testing.assert_close(alone.cross[0], together.cross[row], atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(alone.own[0], together.own[row], atol=1e-5, rtol=1e-4)


def test_gradients_reach_the_latents_and_calls_are_counted(backbone: StableDiffusion) -> None:
    x, before = randn(2, 4, 4, 4).requires_grad_(), backbone.spent
    _, maps = backbone.eps_and_attention(x, 0, backbone.encode(PROMPTS[:2]))
    maps.cross[:, :, 2].sum().backward()
    assert (x.grad != 0).flatten(1).any(dim=1).all()
    assert backbone.spent - before == Compute(unet=1, backward=1)


def test_sides_are_those_of_the_attention_blocks(backbone: StableDiffusion) -> None:
    """Stable Diffusion 1.5: blocks at 64, 32 and 16, the middle at 8; InitNO reads 16."""

    class SD15:
        sample_size, mid_block_type = 64, "UNetMidBlock2DCrossAttn"
        down_block_types = ("CrossAttnDownBlock2D",) * 3 + ("DownBlock2D",)

    assert sides(SD15) == [64, 32, 16, 8] and quarter(SD15) == 16
    assert sides(backbone.denoiser.config) == [2]
    for side in sides(backbone.denoiser.config):
        with reading(backbone.denoiser, side**2) as readings, torch.no_grad():
            backbone.denoise(randn(1, 4, 4, 4), torch.tensor([1]), backbone.encode(["a cat"]))
        assert len(readings.cross) == len(readings.own) > 0
    with pytest.raises(ValueError, match=r"has attention maps of side \[2\], not 3"):
        backbone.eps_and_attention(randn(1, 4, 4, 4), 0, backbone.encode(["a cat"]), 3)


def test_places_are_positions_of_whole_words(backbone: StableDiffusion) -> None:
    ids = backbone.tokenizer("a cat and a red dog").input_ids
    assert backbone.places("a cat and a red dog", "dog") == [len(ids) - 2]
    assert backbone.places("a cat and a red dog", "Cat") == [2]
    assert backbone.places("a cat and a cat", "cat") == [2, 5]
    assert backbone.places("a cat and a red dog", "fox") == []
    (place,) = backbone.places("a xylophone", "xylophone")  # of several tokens: the last one
    assert place == len(backbone.tokenizer("a xylophone").input_ids) - 2


def test_other_models_say_that_they_show_none() -> None:
    gaussian = MixtureBackbone(torch.zeros(1, 3, 2, 2), torch.ones(1), torch.ones(1), steps=2)
    assert not gaussian.shows_attention and not SDXL.shows_attention and StableDiffusion.shows_attention
    with pytest.raises(ValueError, match="MixtureBackbone gives no attention maps: take StableDiffusion"):
        gaussian.eps_and_attention(randn(1, 3, 2, 2), 0, gaussian.encode([""]))
