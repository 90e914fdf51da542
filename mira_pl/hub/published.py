"""What is known of published and packaged weights before they are here: licence, parameters, the cost of a gradient."""

from dataclasses import dataclass, field

from ..assets import packaged

OPENRAIL_PP = "CreativeML Open RAIL++-M"
COMMUNITY = "Stability AI Community License"


@dataclass(frozen=True)
class Cost:
    """Of one call for one picture, with frozen weights.

    Attributes:
        kept: GB that autograd keeps for the gradient in the call's input.
        forward: TFLOP of matrix products, convolutions and attention.
        backward: TFLOP of that gradient.
    """

    kept: float
    forward: float
    backward: float


@dataclass(frozen=True)
class Published:
    """Facts about one repository or packaged folder; None where nobody has counted.

    Attributes:
        licence: as its card names it; read the card before use.
        parameters: of each folder with weights; "" is the repository itself.
        width: bytes of a value in the published files; None where it is not known.
        step: of one denoiser call without guidance, in bfloat16.
        decode: of decoding, in bfloat16, with every block's activations kept.
        score: of scoring, in float32, as rewards are loaded.
        pixels: side of the picture that was counted, where the configuration chooses it.
        reads_guidance: whether its denoiser takes the scale of guidance as an input, and is not called twice for it.
        gated: whether the hub gives it only to those who have logged in and accepted its terms.
    """

    licence: str | None = None
    parameters: dict[str, int] = field(default_factory=dict)
    width: int | None = 4
    step: Cost | None = None
    decode: Cost | None = None
    score: Cost | None = None
    pixels: int | None = None
    reads_guidance: bool = False
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

AT_512, AT_1024 = Cost(2.982, 2.515, 2.549), Cost(11.93, 10.47, 11.02)  # of every AutoencoderKL with SD's decoder
SD35_LARGE_STEP, PIXART_STEP = Cost(13.18, 31.12, 38.35), Cost(0.8154, 1.236, 1.352)
VIT_H, HEAD = Cost(0.4282, 0.3346, 0.3454), Cost(0, 0, 0)
EMOJI_DECODE, EMOJI_CLIP = Cost(0.007039, 0.001176, 0.001201), Cost(0.004406, 0.0003693, 0.0003888)

PUBLISHED = {
    "stable-diffusion-v1-5/stable-diffusion-v1-5": Published(
        "CreativeML OpenRAIL-M",
        {"unet": UNET, "vae": VAE, "text_encoder": CLIP_L},
        step=Cost(0.7748, 0.8033, 0.9228),
        decode=AT_512,
    ),
    "stabilityai/stable-diffusion-xl-base-1.0": Published(
        OPENRAIL_PP, XL, step=Cost(5.337, 6.761, 7.460), decode=AT_1024
    ),
    "stabilityai/sdxl-turbo": Published(
        "sai-nc-community (not commercial)", XL, step=Cost(1.353, 1.589, 1.583), decode=AT_512
    ),
    "madebyollin/sdxl-vae-fp16-fix": Published("MIT", {"": VAE}),
    "PixArt-alpha/PixArt-XL-2-1024-MS": Published(OPENRAIL_PP, {"vae": VAE, "text_encoder": T5_XXL}),
    "PixArt-alpha/PixArt-XL-2-512x512": Published(
        OPENRAIL_PP, {"transformer": PIXART, "vae": VAE, "text_encoder": T5_XXL}, step=PIXART_STEP, decode=AT_512
    ),
    "PixArt-alpha/PixArt-Alpha-DMD-XL-2-512x512": Published(
        None, {"transformer": PIXART}, step=PIXART_STEP, decode=AT_512
    ),
    "stabilityai/stable-diffusion-3.5-medium": Published(
        COMMUNITY, SD35, width=2, step=Cost(6.910, 11.25, 15.47), decode=AT_1024, gated=True
    ),
    "stabilityai/stable-diffusion-3.5-large": Published(
        COMMUNITY, SD35_LARGE, width=2, step=SD35_LARGE_STEP, decode=AT_1024, gated=True
    ),
    "stabilityai/stable-diffusion-3.5-large-turbo": Published(
        COMMUNITY, SD35_LARGE, width=2, step=SD35_LARGE_STEP, decode=AT_1024, gated=True
    ),
    "black-forest-labs/FLUX.1-dev": Published(
        "FLUX.1 [dev] (not commercial)",
        DEV,
        width=2,
        step=Cost(21.62, 74.38, 89.21),
        decode=AT_1024,
        pixels=1024,
        reads_guidance=True,
        gated=True,
    ),
    "black-forest-labs/FLUX.1-schnell": Published(
        "Apache-2.0", SCHNELL, width=2, step=Cost(6.003, 17.69, 18.81), decode=AT_512, pixels=512, gated=True
    ),
    "Efficient-Large-Model/SANA1.5_1.6B_1024px_diffusers": Published(
        "NSCL v2-custom", SANA, width=None, step=Cost(3.296, 2.967, 2.846), decode=Cost(15.49, 8.369, 8.379)
    ),
    "openai/clip-vit-large-patch14": Published(
        "MIT (of its code)", {"": 427_616_513}, score=Cost(0.3601, 0.1620, 0.1685)
    ),
    "laion/CLIP-ViT-H-14-laion2B-s32B-b79K": Published("MIT", {"": CLIP_H}, score=VIT_H),
    "yuvalkirstain/PickScore_v1": Published("MIT (of its code)", {"": CLIP_H}, score=VIT_H),
    "xswu/HPSv2": Published("Apache-2.0", {"": CLIP_H}, width=2, score=VIT_H),
    "THUDM/ImageReward": Published("Apache-2.0", {"": 446_206_689}, score=Cost(0.2717, 0.1378, 0.1417)),
    "Salesforce/blip-vqa-base": Published("BSD-3-Clause", {"": 361_230_140}, score=Cost(0.4950, 0.1506, 0.1632)),
    "trl-lib/ddpo-aesthetic-predictor": Published("Apache-2.0", {"": 927_969}, score=HEAD),
    "bert-base-uncased": Published("Apache-2.0"),
    "ymhao/HPDv2": Published("Apache-2.0"),
    str(packaged("emoji")): Published("Apache-2.0", step=Cost(0.003603, 0.0008419, 0.0008268), decode=EMOJI_DECODE),
    str(packaged("emoji_turbo")): Published(
        "Apache-2.0", step=Cost(0.002767, 0.0004928, 0.0004837), decode=EMOJI_DECODE
    ),
    str(packaged("emoji_dit")): Published("Apache-2.0", step=Cost(0.002404, 0.0005745, 0.0004719), decode=EMOJI_DECODE),
    str(packaged("clip")): Published("Apache-2.0", score=EMOJI_CLIP),
    str(packaged("pickscore")): Published("Apache-2.0", score=EMOJI_CLIP),
    str(packaged("hpsv2")): Published("Apache-2.0", score=Cost(0.003208, 0.0003693, 0.0003888)),
    str(packaged("aesthetic")): Published("Apache-2.0", score=HEAD),
}
"""By hub id or packaged folder. Counted on torch's meta device on models of the published configurations, with fused
attention (`benchmarks/counts.py`; tests/hub/test_costs.py counts again); none of it was measured on a card. BLIP-VQA
is asked two questions; the aesthetic head costs next to nothing beside its CLIP."""
