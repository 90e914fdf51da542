"""Stable Diffusion 1.x and 2.x, and the embedded emoji world, which is of the same classes."""

from collections.abc import Sequence
from typing import Any

from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from torch import Tensor
from transformers import CLIPTextModel, CLIPTokenizer

from ..hub import Need, layouts, ready
from ..hub.loading import load_part, load_weights
from ..schedules import LastSigma, Sampler, make_schedule
from ..text import tokenize
from ..types import Latents
from .base import Text
from .latent import DTypeName, LatentDiffusion, frozen


class StableDiffusion(LatentDiffusion):
    """A frozen Stable Diffusion 1.x or 2.x: CLIP text tower, U-Net, VAE.

    The U-Net predicts the noise (1.x) or the velocity (2.1, emoji), whichever the scheduler's configuration names.

    Args:
        model: `emoji` (packaged), a local folder in diffusers layout, or a hub id.
        steps: T, sampling steps.
        eta: noise of DDIM, 0 to 1; 1 as in the MIRA paper, section 5.
        guidance: classifier-free guidance scale w of eps_u + w (eps_c - eps_u); 5 as in the paper. 1 turns it off.
        dtype: of the weights.
        last_sigma: `keep` diffusers' small noise at the last step of DDIM, or `zero` as the public DNO code.
        sampler: see `mira_pl.schedules.make_schedule`.
    """

    def __init__(
        self,
        model: str = "emoji",
        steps: int = 20,
        eta: float = 1.0,
        guidance: float = 5.0,
        dtype: DTypeName = "float32",
        last_sigma: LastSigma = "keep",
        sampler: Sampler = "ddim",
    ) -> None:
        needs = self.needs(model)
        ready(needs["pipeline"])
        scheduler = load_part(DDIMScheduler.from_pretrained, needs["scheduler"])
        schedule = make_schedule(scheduler.config, sampler, steps, eta, last_sigma)
        super().__init__(model, schedule, guidance, scheduler.config.prediction_type, scheduler.alphas_cumprod, dtype)
        self.tokenizer = load_part(CLIPTokenizer.from_pretrained, needs["tokenizer"])
        self.text = frozen(load_weights(CLIPTextModel.from_pretrained, needs["text_encoder"], dtype=self.dtype))
        weights = {"torch_dtype": self.dtype, "low_cpu_mem_usage": False}  # the quick way needs accelerate
        self.denoiser = frozen(load_weights(UNet2DConditionModel.from_pretrained, needs["unet"], **weights))
        self.vae = frozen(load_weights(AutoencoderKL.from_pretrained, needs["vae"], **weights))
        self.encoders = (self.text,)
        side = self.denoiser.config.sample_size
        self.latent_shape = (self.denoiser.config.in_channels, side, side)

    @staticmethod
    def needs(model: str, **_: Any) -> dict[str, Need]:
        model = layouts.source_of(model, "emoji")
        return {
            "pipeline": layouts.pipeline(model, "StableDiffusionPipeline", "LatentConsistencyModelPipeline"),
            "scheduler": layouts.scheduler(model),
            "tokenizer": layouts.tokenizer(model, "tokenizer", "vocab.json"),
            "text_encoder": layouts.transformers_weights(model, "text_encoder"),
            "unet": layouts.diffusers_weights(model, "unet"),
            "vae": layouts.diffusers_weights(model, "vae"),
        }

    def run(self, x: Latents, timestep: Tensor, text: Text) -> Latents:
        return self.denoiser(x, timestep, text.tokens).sample

    def embed(self, prompts: Sequence[str]) -> Text:
        tokens = tokenize(self.tokenizer, prompts, self.tokenizer.model_max_length, "StableDiffusion")
        return Text(self.text(tokens.input_ids.to(self.device)).last_hidden_state)
