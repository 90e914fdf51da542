"""The table of published weights against models of the published configurations, on the meta device."""

from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest
import torch
from torch import nn

from benchmarks import architectures as real
from mira_pl.backbones import SDXL, Flux, PixArt, Sana, StableDiffusion, StableDiffusion3
from mira_pl.fit.cli import parse, plain
from mira_pl.fit.needs import needs_of
from mira_pl.hub import Need
from mira_pl.hub.published import PUBLISHED
from mira_pl.rewards import BLIPVQA, Aesthetic, HPSv2, ImageReward, PickScore
from mira_pl.rewards.clip import AestheticHead

CONFIGS = sorted(path for path in Path("configs").glob("*.yaml") if not path.stem.startswith("emoji"))
DENOISERS = {
    "sd15": 859_520_964,
    "sdxl": 2_567_463_684,
    "pixart": 610_856_096,
    "sd35": 2_243_171_520,
    "flux": 11_891_178_560,
    "sana": 1_604_462_752,
}
"""Parameters, by the beginning of a config's name."""


def head() -> nn.Module:
    return AestheticHead(768)


XL = {"unet": real.unet_xl, "vae": real.vae, "text_encoder": real.text_l, "text_encoder_2": real.text_g}
SD3_TEXT = {"text_encoder": real.text_l_projected, "text_encoder_2": real.text_g, "text_encoder_3": real.t5}
SD35_LARGE = {"transformer": real.sd35_large, **SD3_TEXT, "vae": real.vae_16}
FLUX_TEXT = {"text_encoder": real.text_l, "text_encoder_2": real.t5, "vae": real.vae_16}
SANA = {"transformer": real.sana, "text_encoder": real.gemma, "vae": real.dc_ae}
MODELS: dict[str, dict[str, Callable[[], nn.Module]]] = {
    "stable-diffusion-v1-5/stable-diffusion-v1-5": {
        "unet": real.unet, "vae": real.vae, "text_encoder": real.text_l,
    },
    "stabilityai/stable-diffusion-xl-base-1.0": XL,
    "stabilityai/sdxl-turbo": XL,
    "madebyollin/sdxl-vae-fp16-fix": {"": real.vae},
    "PixArt-alpha/PixArt-XL-2-1024-MS": {"vae": real.vae, "text_encoder": real.t5},
    "PixArt-alpha/PixArt-XL-2-512x512": {"transformer": real.pixart, "vae": real.vae, "text_encoder": real.t5},
    "PixArt-alpha/PixArt-Alpha-DMD-XL-2-512x512": {"transformer": real.pixart},
    "stabilityai/stable-diffusion-3.5-medium": {"transformer": real.sd35_medium, **SD3_TEXT, "vae": real.vae_16},
    "stabilityai/stable-diffusion-3.5-large": SD35_LARGE,
    "stabilityai/stable-diffusion-3.5-large-turbo": SD35_LARGE,
    "black-forest-labs/FLUX.1-dev": {"transformer": real.flux_dev, **FLUX_TEXT},
    "black-forest-labs/FLUX.1-schnell": {"transformer": real.flux_schnell, **FLUX_TEXT},
    "Efficient-Large-Model/SANA1.5_1.6B_1024px_diffusers": SANA,
    "openai/clip-vit-large-patch14": {"": real.clip_l},
    "laion/CLIP-ViT-H-14-laion2B-s32B-b79K": {"": real.clip_h},
    "yuvalkirstain/PickScore_v1": {"": real.clip_h},
    "xswu/HPSv2": {"": real.clip_h},
    "THUDM/ImageReward": {"": real.imagereward},
    "Salesforce/blip-vqa-base": {"": real.blip_vqa},
    "trl-lib/ddpo-aesthetic-predictor": {"": head},
}  # fmt: skip
"""The architectures of published weights, by hub id and folder."""


@cache
def parameters(architecture: Callable[[], nn.Module]) -> int:
    with torch.device("meta"):
        return sum(value.numel() for value in architecture().parameters())


def weights(config: Path) -> dict[str, Need]:
    """What a config needs that has weights, by place."""
    needs = needs_of(plain(parse(["--config", str(config)])))
    return {place: need for place, need in needs.items() if isinstance(need, Need) and need.has_weights}


@pytest.mark.parametrize("source", MODELS, ids=lambda source: source.split("/")[-1])
def test_parameters_are_those_of_the_published_configuration(source: str) -> None:
    assert PUBLISHED[source].parameters == {folder: parameters(model) for folder, model in MODELS[source].items()}


@pytest.mark.parametrize("config", CONFIGS, ids=lambda path: path.stem)
def test_every_config_names_models_of_known_architecture(config: Path) -> None:
    """Each is built at full size, and the denoiser is the one that the config's name promises."""
    needs = weights(config)
    for place, need in needs.items():
        assert need.folder in MODELS.get(need.source, {}), f"{place}: no architecture of {need.source} {need.folder}"
        assert parameters(MODELS[need.source][need.folder]) == PUBLISHED[need.source].parameters[need.folder]
    (denoiser,) = (need for place, need in needs.items() if place.endswith((".unet", ".transformer")))
    assert parameters(MODELS[denoiser.source][denoiser.folder]) == DENOISERS[config.stem.split("_")[0]]


def test_every_default_is_in_the_table() -> None:
    """Of each, every folder that has weights."""
    needs = [
        *StableDiffusion.needs("stable-diffusion-v1-5/stable-diffusion-v1-5", None, None, ()).values(),
        *SDXL.needs("stabilityai/stable-diffusion-xl-base-1.0", None, None, ()).values(),
        *SDXL.needs("stabilityai/sdxl-turbo", "madebyollin/sdxl-vae-fp16-fix", None, ()).values(),
        *PixArt.needs("PixArt-alpha/PixArt-XL-2-1024-MS", "PixArt-alpha/PixArt-Alpha-DMD-XL-2-512x512").values(),
        *StableDiffusion3.needs("stabilityai/stable-diffusion-3.5-medium", True).values(),
        *StableDiffusion3.needs("stabilityai/stable-diffusion-3.5-large-turbo", True).values(),
        *Flux.needs("black-forest-labs/FLUX.1-dev").values(),
        *Flux.needs("black-forest-labs/FLUX.1-schnell").values(),
        *Sana.needs("Efficient-Large-Model/SANA1.5_1.6B_1024px_diffusers").values(),
        *Aesthetic.needs("openai/clip-vit-large-patch14", "trl-lib/ddpo-aesthetic-predictor").values(),
        *HPSv2.needs("xswu/HPSv2", "2.1", "laion/CLIP-ViT-H-14-laion2B-s32B-b79K").values(),
        *PickScore.needs("yuvalkirstain/PickScore_v1", "laion/CLIP-ViT-H-14-laion2B-s32B-b79K").values(),
        *ImageReward.needs("THUDM/ImageReward", "bert-base-uncased").values(),
        *BLIPVQA.needs("Salesforce/blip-vqa-base").values(),
    ]
    for need in needs:
        assert not need.has_weights or need.folder in PUBLISHED[need.source].parameters, need
