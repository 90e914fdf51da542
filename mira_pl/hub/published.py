"""What is known of published weights before they are here: licence, parameters, and the memory of a gradient."""

from dataclasses import dataclass, field

OPENRAIL_PP = "CreativeML Open RAIL++-M"
COMMUNITY = "Stability AI Community License"


@dataclass(frozen=True)
class Published:
    """Facts about one repository; None where nobody has counted.

    Attributes:
        licence: as its card names it; read the card before use.
        parameters: of each folder with weights; "" is the repository itself.
        width: bytes of a value in the published files; None where it is not known.
        step: GB that autograd keeps for one prompt and one denoiser call without guidance, in bfloat16.
        decode: GB that it keeps for decoding one picture, in bfloat16.
        score: GB that it keeps for scoring one picture, in bfloat16.
        gated: whether the hub gives it only to those who have logged in and accepted its terms.
    """

    licence: str | None = None
    parameters: dict[str, int] = field(default_factory=dict)
    width: int | None = 4
    step: float | None = None
    decode: float | None = None
    score: float | None = None
    gated: bool = False


CLIP_L_PROJECTED, VAE_16, GEMMA, DC_AE = 123_650_304, 83_819_683, 2_614_341_888, 312_250_275
CLIP_L, CLIP_G, CLIP_H, T5_XXL, VAE = 123_060_480, 694_659_840, 986_109_441, 4_762_310_656, 83_653_863
UNET, UNET_XL, PIXART = 859_520_964, 2_567_463_684, 610_856_096
SD3_TEXT = {"text_encoder": CLIP_L_PROJECTED, "text_encoder_2": CLIP_G, "text_encoder_3": T5_XXL, "vae": VAE_16}
SD35, SD35_LARGE = {"transformer": 2_243_171_520, **SD3_TEXT}, {"transformer": 8_056_627_520, **SD3_TEXT}
FLUX_TEXT = {"text_encoder": CLIP_L, "text_encoder_2": T5_XXL, "vae": VAE_16}
DEV, SCHNELL = {"transformer": 11_901_408_320, **FLUX_TEXT}, {"transformer": 11_891_178_560, **FLUX_TEXT}
SANA = {"transformer": 1_604_462_752, "text_encoder": GEMMA, "vae": DC_AE}
XL = {"unet": UNET_XL, "vae": VAE, "text_encoder": CLIP_L, "text_encoder_2": CLIP_G}

PUBLISHED = {
    "stable-diffusion-v1-5/stable-diffusion-v1-5": Published(
        "CreativeML OpenRAIL-M", {"unet": UNET, "vae": VAE, "text_encoder": CLIP_L}, step=0.77, decode=2.98
    ),
    "stabilityai/stable-diffusion-xl-base-1.0": Published(OPENRAIL_PP, XL, step=5.34, decode=11.9),
    "stabilityai/sdxl-turbo": Published("sai-nc-community (not commercial)", XL, step=1.35, decode=2.98),
    "madebyollin/sdxl-vae-fp16-fix": Published("MIT", {"": VAE}),
    "PixArt-alpha/PixArt-XL-2-1024-MS": Published(OPENRAIL_PP, {"vae": VAE, "text_encoder": T5_XXL}),
    "PixArt-alpha/PixArt-XL-2-512x512": Published(
        OPENRAIL_PP, {"transformer": PIXART, "vae": VAE, "text_encoder": T5_XXL}, step=0.82, decode=2.98
    ),
    "PixArt-alpha/PixArt-Alpha-DMD-XL-2-512x512": Published(None, {"transformer": PIXART}, step=0.82, decode=2.98),
    "stabilityai/stable-diffusion-3.5-medium": Published(COMMUNITY, SD35, width=2, gated=True),
    "stabilityai/stable-diffusion-3.5-large": Published(COMMUNITY, SD35_LARGE, width=2, gated=True),
    "stabilityai/stable-diffusion-3.5-large-turbo": Published(COMMUNITY, SD35_LARGE, width=2, gated=True),
    "black-forest-labs/FLUX.1-dev": Published("FLUX.1 [dev] (not commercial)", DEV, width=2, gated=True),
    "black-forest-labs/FLUX.1-schnell": Published("Apache-2.0", SCHNELL, width=2, gated=True),
    "Efficient-Large-Model/SANA1.5_1.6B_1024px_diffusers": Published("NSCL v2-custom", SANA, width=None),
    "openai/clip-vit-large-patch14": Published("MIT", {"": 427_616_513}, score=0.18),
    "laion/CLIP-ViT-H-14-laion2B-s32B-b79K": Published("MIT", {"": CLIP_H}, score=0.30),
    "yuvalkirstain/PickScore_v1": Published("MIT", {"": CLIP_H}, score=0.30),
    "xswu/HPSv2": Published("Apache-2.0", {"": CLIP_H}, width=2, score=0.30),
    "THUDM/ImageReward": Published("Apache-2.0", {"": 446_206_689}),
    "Salesforce/blip-vqa-base": Published("BSD-3-Clause", {"": 361_230_140}),
    "trl-lib/ddpo-aesthetic-predictor": Published("Apache-2.0", {"": 927_969}, score=0.0),
    "bert-base-uncased": Published("Apache-2.0"),
    "ymhao/HPDv2": Published("Apache-2.0"),
}
"""By hub id. Parameters: counted on models of the published configurations on torch's meta device, as were the bytes
that autograd keeps (flash attention, nothing recomputed); none of it was measured on a card."""
