"""The table of published weights against models of the published configurations, on the meta device."""

from typing import Any

import pytest
import torch
from diffusers import AutoencoderDC, FluxTransformer2DModel, SanaTransformer2DModel, SD3Transformer2DModel
from torch import nn
from transformers import (
    BlipConfig,
    BlipForQuestionAnswering,
    CLIPTextConfig,
    CLIPTextModelWithProjection,
    Gemma2Config,
    Gemma2Model,
)

from benchmarks.architectures import (
    BLIP_TEXT,
    LARGE,
    clip_h,
    clip_l,
    imagereward,
    pixart,
    t5,
    text_g,
    text_l,
    unet,
    unet_xl,
    vae,
)
from mira_pl.backbones import SDXL, Flux, PixArt, Sana, StableDiffusion, StableDiffusion3
from mira_pl.hub.published import PUBLISHED
from mira_pl.rewards import BLIPVQA, Aesthetic, HPSv2, ImageReward, PickScore
from mira_pl.rewards.clip import AestheticHead


def sd3(layers: int, **shape: Any) -> nn.Module:
    return SD3Transformer2DModel(
        num_layers=layers, num_attention_heads=layers, caption_projection_dim=64 * layers, qk_norm="rms_norm", **shape
    )


def sd35_medium() -> nn.Module:
    return sd3(24, pos_embed_max_size=384, dual_attention_layers=tuple(range(13)))


def sd35_large() -> nn.Module:
    return sd3(38, pos_embed_max_size=192)


def vae_16() -> nn.Module:
    return vae(latent_channels=16, use_quant_conv=False, use_post_quant_conv=False)


def dc_ae() -> nn.Module:
    blocks = ("ResBlock",) * 3 + ("EfficientViTBlock",) * 3
    return AutoencoderDC(
        encoder_block_types=blocks, decoder_block_types=blocks,
        downsample_block_type="conv", upsample_block_type="interpolate",
    )  # fmt: skip


def gemma() -> nn.Module:
    heads = {"num_attention_heads": 8, "num_key_value_heads": 4, "head_dim": 256}
    return Gemma2Model(Gemma2Config(hidden_size=2304, intermediate_size=9216, num_hidden_layers=26, **heads))


def text_l_projected() -> nn.Module:
    return CLIPTextModelWithProjection(CLIPTextConfig(**LARGE, projection_dim=768))


def blip() -> nn.Module:
    text = BLIP_TEXT | {"encoder_hidden_size": 768}
    return BlipForQuestionAnswering(BlipConfig(text_config=text, vision_config=LARGE))


MODELS = {
    ("stable-diffusion-v1-5/stable-diffusion-v1-5", "unet"): unet,
    ("stable-diffusion-v1-5/stable-diffusion-v1-5", "vae"): vae,
    ("stable-diffusion-v1-5/stable-diffusion-v1-5", "text_encoder"): text_l,
    ("stabilityai/stable-diffusion-xl-base-1.0", "unet"): unet_xl,
    ("stabilityai/stable-diffusion-xl-base-1.0", "text_encoder_2"): text_g,
    ("PixArt-alpha/PixArt-XL-2-512x512", "transformer"): pixart,
    ("PixArt-alpha/PixArt-XL-2-512x512", "text_encoder"): t5,
    ("stabilityai/stable-diffusion-3.5-medium", "transformer"): sd35_medium,
    ("stabilityai/stable-diffusion-3.5-medium", "text_encoder"): text_l_projected,
    ("stabilityai/stable-diffusion-3.5-medium", "vae"): vae_16,
    ("stabilityai/stable-diffusion-3.5-large", "transformer"): sd35_large,
    ("black-forest-labs/FLUX.1-dev", "transformer"): lambda: FluxTransformer2DModel(guidance_embeds=True),
    ("black-forest-labs/FLUX.1-schnell", "transformer"): FluxTransformer2DModel,
    ("Efficient-Large-Model/SANA1.5_1.6B_1024px_diffusers", "transformer"): SanaTransformer2DModel,
    ("Efficient-Large-Model/SANA1.5_1.6B_1024px_diffusers", "text_encoder"): gemma,
    ("Efficient-Large-Model/SANA1.5_1.6B_1024px_diffusers", "vae"): dc_ae,
    ("openai/clip-vit-large-patch14", ""): clip_l,
    ("laion/CLIP-ViT-H-14-laion2B-s32B-b79K", ""): clip_h,
    ("THUDM/ImageReward", ""): imagereward,
    ("Salesforce/blip-vqa-base", ""): blip,
    ("trl-lib/ddpo-aesthetic-predictor", ""): lambda: AestheticHead(768),
}


@pytest.mark.parametrize(("name", "folder"), MODELS, ids=lambda part: part.split("/")[-1])
def test_parameters_are_those_of_the_published_configuration(name: str, folder: str) -> None:
    with torch.device("meta"):
        model = MODELS[name, folder]()
    assert PUBLISHED[name].parameters[folder] == sum(value.numel() for value in model.parameters())


def test_every_default_and_every_config_is_in_the_table() -> None:
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
