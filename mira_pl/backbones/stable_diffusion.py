"""Stable Diffusion 1.x and 2.x, and the embedded emoji world, which is of the same classes."""

from collections.abc import Sequence
from typing import ClassVar

import torch
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from torch import Tensor
from transformers import CLIPTextModel, CLIPTokenizer

from ..schedules import LastSigma, Sampler, make_schedule
from ..types import Latents
from .attention import Attention, quarter, reading, sides
from .base import Condition, Text
from .latent import DTypeName, LatentDiffusion, frozen, tokenize
from .loading import load_part, load_weights


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

    shows_attention: ClassVar[bool] = True

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
        scheduler = load_part(DDIMScheduler.from_pretrained, model, "scheduler")
        schedule = make_schedule(scheduler.config, sampler, steps, eta, last_sigma)
        super().__init__(model, schedule, guidance, scheduler.config.prediction_type, scheduler.alphas_cumprod, dtype)
        self.tokenizer = load_part(CLIPTokenizer.from_pretrained, model, "tokenizer")
        self.text = frozen(load_weights(CLIPTextModel.from_pretrained, model, "text_encoder", dtype=self.dtype))
        weights = {"torch_dtype": self.dtype, "low_cpu_mem_usage": False}  # the quick way needs accelerate
        self.denoiser = frozen(load_weights(UNet2DConditionModel.from_pretrained, model, "unet", **weights))
        self.vae = frozen(load_weights(AutoencoderKL.from_pretrained, model, "vae", **weights))
        self.encoders = (self.text,)
        side = self.denoiser.config.sample_size
        self.latent_shape = (self.denoiser.config.in_channels, side, side)

    def run(self, x: Latents, timestep: Tensor, text: Text) -> Latents:
        return self.denoiser(x, timestep, text.tokens).sample

    def eps_and_attention(
        self, x: Latents, step: int, condition: Condition, side: int | None = None
    ) -> tuple[Latents, Attention]:
        side = quarter(self.denoiser.config) if side is None else side
        if side not in sides(self.denoiser.config):
            raise ValueError(f"{self.model!r} has attention maps of side {sides(self.denoiser.config)}, not {side}")
        timestep = torch.full((len(x),), self.schedule.timesteps[step], device=x.device)
        with reading(self.denoiser, side**2) as readings:
            eps = self.predict(x, timestep, self.schedule.alpha[step], condition.positive)
        attention = readings.mean()
        return eps, Attention(self.count(attention.cross, 1), attention.own)

    def places(self, prompt: str, word: str) -> list[int]:
        ids = self.tokenizer(prompt, truncation=True, max_length=self.tokenizer.model_max_length).input_ids
        wanted = self.tokenizer(word, add_special_tokens=False).input_ids
        starts = range(len(ids) - len(wanted) + 1)
        return [start + len(wanted) - 1 for start in starts if ids[start : start + len(wanted)] == wanted]

    def embed(self, prompts: Sequence[str]) -> Text:
        tokens = tokenize(self.tokenizer, prompts, self.tokenizer.model_max_length)
        return Text(self.text(tokens.input_ids.to(self.device)).last_hidden_state)
