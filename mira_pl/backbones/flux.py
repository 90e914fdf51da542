"""FLUX.1: a rectified flow on 2 x 2 patches of latents; guidance is an input of the network or was distilled away."""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL, FlowMatchEulerDiscreteScheduler, FluxTransformer2DModel
from torch import Tensor
from transformers import CLIPTextModel, CLIPTokenizer, T5EncoderModel, T5Tokenizer

from ..flow import TRAINING_STEPS, flow_schedule, training_levels
from ..hub import Need, layouts, ready
from ..hub.loading import load_part, load_weights
from ..ranges import finite
from ..text import tokenize
from ..types import Latents
from .base import Text
from .compiled import Compile, compiled
from .latent import DTypeName, LatentDiffusion, checkpointed, frozen

PATCH = 2


class Flux(LatentDiffusion):
    """A frozen FLUX.1 dev or schnell: CLIP-L for the pooled prompt, T5 for its words, transformer, VAE.

    schnell is `model: black-forest-labs/FLUX.1-schnell, steps: 4, guidance: 1`. dev reads its guidance scale as an
    input, in `denoise` too, so that no call has an unconditional branch.

    Args:
        model: a hub id, or a local folder in diffusers layout.
        steps: T, sampling steps.
        eta: noise of the sampler, 0 (Euler's method, as its authors sample) to 1.
        guidance: scale that dev reads, 3.5 as on its card; schnell reads none and takes 1.
        dtype: of the weights.
        size: side of the picture in pixels.
        checkpoint_vae: see `StableDiffusion`.
        compile: see `StableDiffusion`.
    """

    predictions = ("flow_prediction",)

    def __init__(
        self,
        model: str = "black-forest-labs/FLUX.1-dev",
        steps: int = 28,
        eta: float = 0.0,
        guidance: float = 3.5,
        dtype: DTypeName = "float32",
        size: int = 1024,
        checkpoint_vae: bool = True,
        compile: Compile = "none",
    ) -> None:
        needs = self.needs(model)
        ready(needs["pipeline"])
        config = load_part(FluxTransformer2DModel.load_config, needs["transformer"])
        self.reads_guidance, self.scale = bool(config.get("guidance_embeds")), guidance
        finite(guidance=guidance)
        if not self.reads_guidance and guidance != 1:
            raise ValueError(f"{model!r} reads no guidance scale: guidance must be 1, got {guidance}")
        side = latent_side(load_part(AutoencoderKL.load_config, needs["vae"]), size)
        self.latent_shape = (config["in_channels"] // PATCH**2, side, side)
        places = torch.arange(float(side // PATCH))
        self.ids = torch.cartesian_prod(torch.zeros(1), places, places)  # 0, row and column of every patch
        scheduler = load_part(FlowMatchEulerDiscreteScheduler.from_pretrained, needs["scheduler"])
        times = [1 - step / steps for step in range(steps)]  # as its authors sample
        schedule = flow_schedule(scheduler, steps, eta, tokens=len(self.ids), times=times)
        prediction = scheduler.config.get("prediction_type", "flow_prediction")
        super().__init__(model, schedule, 1.0, prediction, training_levels(), dtype)
        self.compile = compile
        transformer = frozen(load_weights(FluxTransformer2DModel, needs["transformer"], self.dtype))
        self.denoiser = compiled(transformer, compile)
        self.vae = checkpointed(frozen(load_weights(AutoencoderKL, needs["vae"], self.dtype)), checkpoint_vae)
        self.tokenizer = load_part(CLIPTokenizer.from_pretrained, needs["tokenizer"])
        self.t5_tokenizer = load_part(T5Tokenizer.from_pretrained, needs["tokenizer_2"])
        self.encoders = (
            frozen(load_weights(CLIPTextModel, needs["text_encoder"], self.dtype)),
            frozen(load_weights(T5EncoderModel, needs["text_encoder_2"], self.dtype)),
        )
        self.longest = 512 if self.reads_guidance else 256  # tokens of T5 that dev and schnell were trained with

    @staticmethod
    def needs(model: str, **_: Any) -> dict[str, Need]:
        return {
            "pipeline": layouts.pipeline(model, "FluxPipeline"),
            "scheduler": layouts.scheduler(model),
            "tokenizer": layouts.tokenizer(model, "tokenizer", "vocab.json"),
            "tokenizer_2": layouts.tokenizer(model, "tokenizer_2", "spiece.model"),
            "text_encoder": layouts.transformers_weights(model, "text_encoder"),
            "text_encoder_2": layouts.transformers_weights(model, "text_encoder_2"),
            "transformer": layouts.diffusers_weights(model, "transformer"),
            "vae": layouts.diffusers_weights(model, "vae"),
        }

    def run(self, x: Latents, timestep: Tensor, text: Text) -> Latents:
        scale = torch.full((len(x),), self.scale, device=x.device) if self.reads_guidance else None
        packed = self.denoiser(
            pack(x),
            encoder_hidden_states=text.tokens,
            pooled_projections=text.pooled,
            timestep=timestep / TRAINING_STEPS,
            img_ids=self.ids.to(x.device),
            txt_ids=torch.zeros(text.tokens.shape[1], 3, device=x.device),
            guidance=scale,
        ).sample
        return unpack(packed, x.shape[2] // PATCH)

    def embed(self, prompts: Sequence[str]) -> Text:
        """T5's embeddings of prompt and padding alike, as the transformer was trained on, and CLIP's pooled one."""
        clip, t5 = self.encoders
        most = self.tokenizer.model_max_length
        short = tokenize(self.tokenizer, prompts, most, "CLIP of FLUX").input_ids.to(clip.device)
        ids = tokenize(self.t5_tokenizer, prompts, self.longest, "T5 of FLUX").input_ids.to(t5.device)
        return Text(t5(ids).last_hidden_state, clip(short).pooler_output)


def latent_side(vae: dict[str, Any], size: int) -> int:
    """Side of the latents of a picture, which falls into whole patches."""
    reduction = 2 ** (len(vae["block_out_channels"]) - 1)
    if size < 1 or size % (PATCH * reduction):
        raise ValueError(f"size must be a multiple of {PATCH * reduction} pixels, got {size}")
    return size // reduction


def pack(x: Latents) -> Tensor:
    """Latents as one token a patch, [b, h / 2 * w / 2, 4 c], channels before the places of a patch."""
    return F.pixel_unshuffle(x, PATCH).flatten(2).transpose(1, 2)


def unpack(tokens: Tensor, rows: int) -> Latents:
    """The inverse of `pack`, for pictures of so many rows of patches."""
    return F.pixel_shuffle(tokens.transpose(1, 2).unflatten(2, (rows, -1)), PATCH)
