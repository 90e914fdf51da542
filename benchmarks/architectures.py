"""The networks of the published configurations, and the same classes at tiny size for checks on a CPU.

Real ones are checked by their numbers of parameters in tests/hub/test_published.py.
"""

from typing import Any, Literal

from diffusers import (
    AutoencoderDC,
    AutoencoderKL,
    FluxTransformer2DModel,
    PixArtTransformer2DModel,
    SanaTransformer2DModel,
    SD3Transformer2DModel,
    UNet2DConditionModel,
)
from torch import nn
from transformers import (
    BlipConfig,
    BlipForQuestionAnswering,
    BlipTextConfig,
    BlipVisionConfig,
    CLIPConfig,
    CLIPModel,
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    Gemma2Config,
    Gemma2Model,
    T5Config,
    T5EncoderModel,
)

from mira_pl.rewards.hpsv2 import VIT_H_14, clip_config
from mira_pl.rewards.imagereward import Scorer

Size = Literal["real", "tiny"]

LARGE = {"hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12}
"""The text tower of CLIP ViT-L/14, and a ViT-B."""
BLIP_TEXT = LARGE | {"vocab_size": 30524, "is_decoder": True}
TINY = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
TINY_OPEN_CLIP: dict[str, Any] = {
    "embed_dim": 16,
    "vision_cfg": {"image_size": 28, "layers": 2, "width": 16, "head_width": 8, "patch_size": 14},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 2},
}


def unet(size: Size = "real") -> nn.Module:
    """Of Stable Diffusion 1.5."""
    if size == "tiny":
        return UNet2DConditionModel(
            sample_size=8, block_out_channels=(8, 8, 8, 8), cross_attention_dim=16, attention_head_dim=2,
            layers_per_block=1, norm_num_groups=4,
        )  # fmt: skip
    channels = (320, 640, 1280, 1280)
    return UNet2DConditionModel(
        sample_size=64, block_out_channels=channels, cross_attention_dim=768, attention_head_dim=8
    )


def unet_xl(size: Size = "real", side: int = 128) -> nn.Module:
    """Of SDXL, and with a side of 64 of SDXL-Turbo."""
    blocks: dict[str, Any] = {
        "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        "use_linear_projection": True,
        "addition_embed_type": "text_time",
    }
    if size == "tiny":
        return UNet2DConditionModel(
            sample_size=8, block_out_channels=(8, 8, 16), cross_attention_dim=32, attention_head_dim=[1, 2, 4],
            transformer_layers_per_block=[1, 1, 2], layers_per_block=1, norm_num_groups=4, addition_time_embed_dim=8,
            projection_class_embeddings_input_dim=16 + 6 * 8, **blocks,
        )  # fmt: skip
    return UNet2DConditionModel(
        sample_size=side, block_out_channels=(320, 640, 1280), cross_attention_dim=2048, attention_head_dim=[5, 10, 20],
        transformer_layers_per_block=[1, 2, 10], addition_time_embed_dim=256,
        projection_class_embeddings_input_dim=2816, **blocks,
    )  # fmt: skip


def pixart(size: Size = "real") -> nn.Module:
    """Of PixArt-alpha at 512 pixels, and of its one-step student."""
    if size == "tiny":
        return PixArtTransformer2DModel(
            sample_size=8, num_layers=2, num_attention_heads=2, attention_head_dim=8, in_channels=4, out_channels=8,
            cross_attention_dim=16, caption_channels=16,
        )  # fmt: skip
    return PixArtTransformer2DModel(
        sample_size=64, num_layers=28, num_attention_heads=16, attention_head_dim=72, in_channels=4, out_channels=8,
        cross_attention_dim=1152, caption_channels=4096,
    )  # fmt: skip


def vae(size: Size = "real", **options: Any) -> nn.Module:
    """Of all three, but for numbers that no speed hangs on."""
    wide: dict[str, Any] = {"block_out_channels": (128, 256, 512, 512), "layers_per_block": 2}
    narrow: dict[str, Any] = {"block_out_channels": (8, 8, 8, 8), "layers_per_block": 1, "norm_num_groups": 4}
    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 4, up_block_types=("UpDecoderBlock2D",) * 4,
        **(wide if size == "real" else narrow), **options,
    )  # fmt: skip


def text_l(size: Size = "real") -> nn.Module:
    """The text encoder of Stable Diffusion 1.5, and the first one of SDXL."""
    return CLIPTextModel(CLIPTextConfig(**(LARGE if size == "real" else TINY)))


def text_g(size: Size = "real") -> nn.Module:
    """The second text encoder of SDXL."""
    wide = {"hidden_size": 1280, "intermediate_size": 5120, "num_hidden_layers": 32, "num_attention_heads": 20}
    shape = wide | {"projection_dim": 1280} if size == "real" else TINY | {"projection_dim": 16}
    return CLIPTextModelWithProjection(CLIPTextConfig(**shape))


def t5(size: Size = "real") -> nn.Module:
    """T5-XXL, the text encoder of PixArt-alpha."""
    wide = {"d_model": 4096, "d_ff": 10240, "num_layers": 24, "num_heads": 64}
    narrow = {"d_model": 16, "d_kv": 8, "d_ff": 32, "num_layers": 2, "num_heads": 2}
    return T5EncoderModel(T5Config(**(wide if size == "real" else narrow), feed_forward_proj="gated-gelu"))


def clip_l(size: Size = "real") -> CLIPModel:
    """CLIP ViT-L/14."""
    if size == "tiny":
        return CLIPModel(clip_config(TINY_OPEN_CLIP))
    vision = {"hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24, "num_attention_heads": 16}
    vision |= {"patch_size": 14, "image_size": 224}
    return CLIPModel(CLIPConfig(text_config=LARGE, vision_config=vision, projection_dim=768))


def clip_h(size: Size = "real") -> CLIPModel:
    """CLIP ViT-H/14, of HPSv2 and PickScore."""
    return CLIPModel(clip_config(VIT_H_14 if size == "real" else TINY_OPEN_CLIP))


def imagereward(size: Size = "real") -> Scorer:
    """BLIP ViT-L/16 with the head of ImageReward."""
    if size == "tiny":
        vision = BlipVisionConfig(**TINY, image_size=32, patch_size=16)
        text = BlipTextConfig(
            **TINY, vocab_size=100, is_decoder=True, encoder_hidden_size=16, max_position_embeddings=64
        )
        return Scorer(vision, text)
    vision = BlipVisionConfig(
        hidden_size=1024, intermediate_size=4096, num_hidden_layers=24, num_attention_heads=16, image_size=224,
        patch_size=16,
    )  # fmt: skip
    return Scorer(vision, BlipTextConfig(**BLIP_TEXT, encoder_hidden_size=1024, max_position_embeddings=512))


def blip_vqa() -> BlipForQuestionAnswering:
    """BLIP with ViT-B/16 for questions about a picture."""
    text = BLIP_TEXT | {"encoder_hidden_size": 768}
    return BlipForQuestionAnswering(BlipConfig(text_config=text, vision_config=LARGE))


def sd35_medium() -> nn.Module:
    """The transformer of Stable Diffusion 3.5 Medium."""
    return _sd3(24, pos_embed_max_size=384, dual_attention_layers=tuple(range(13)))


def sd35_large() -> nn.Module:
    """The transformer of Stable Diffusion 3.5 Large, and of its Turbo."""
    return _sd3(38, pos_embed_max_size=192)


def _sd3(layers: int, **shape: Any) -> nn.Module:
    return SD3Transformer2DModel(
        sample_size=128, num_layers=layers, num_attention_heads=layers, caption_projection_dim=64 * layers,
        qk_norm="rms_norm", **shape,
    )  # fmt: skip


def flux_dev() -> nn.Module:
    """The transformer of FLUX.1 dev."""
    return FluxTransformer2DModel(guidance_embeds=True)


def flux_schnell() -> nn.Module:
    """The transformer of FLUX.1 schnell."""
    return FluxTransformer2DModel()


def sana() -> nn.Module:
    """The transformer of SANA 1.5, 1.6 B, at 1024 pixels."""
    return SanaTransformer2DModel()


def vae_16() -> nn.Module:
    """Of Stable Diffusion 3.5 and FLUX.1: 16 channels of latents."""
    return vae(latent_channels=16, use_quant_conv=False, use_post_quant_conv=False)


def dc_ae() -> nn.Module:
    """The autoencoder of SANA."""
    blocks = ("ResBlock",) * 3 + ("EfficientViTBlock",) * 3
    return AutoencoderDC(
        encoder_block_types=blocks, decoder_block_types=blocks,
        downsample_block_type="conv", upsample_block_type="interpolate",
    )  # fmt: skip


def text_l_projected() -> nn.Module:
    """The first text encoder of Stable Diffusion 3.5."""
    return CLIPTextModelWithProjection(CLIPTextConfig(**LARGE, projection_dim=768))


def gemma() -> nn.Module:
    """Gemma 2 of 2 B, the text encoder of SANA."""
    heads = {"num_attention_heads": 8, "num_key_value_heads": 4, "head_dim": 256}
    return Gemma2Model(Gemma2Config(hidden_size=2304, intermediate_size=9216, num_hidden_layers=26, **heads))
