"""Stable Diffusion 1.x, and the embedded emoji world, which is of the same classes."""

import logging
from collections.abc import Sequence
from typing import Any, Literal

import torch
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from torch import Tensor
from transformers import CLIPTextModel, CLIPTokenizer

from ..diffusion import Schedule
from ..types import Compute, Images, Latents
from .base import Backbone, Condition
from .loading import load_part, load_weights

logger = logging.getLogger(__name__)
DTypeName = Literal["float32", "bfloat16", "float16", "float64"]


class StableDiffusion(Backbone):
    """A frozen Stable Diffusion 1.x: CLIP text tower, eps-predicting U-Net, VAE. Sampler arithmetic stays in fp32.

    Args:
        model: `emoji` (packaged), a local folder in diffusers layout, or a hub id.
        steps: T, DDIM steps.
        eta: noise of the sampler, 0 to 1; 1 as in the MIRA paper, section 5.
        guidance: classifier-free guidance scale w of eps_u + w (eps_c - eps_u); 5 as in the paper. 1 turns it off.
        dtype: of the weights.
        last_sigma: `keep` diffusers' small noise at the last step, or `zero` as the public DNO code.
    """

    def __init__(
        self,
        model: str = "emoji",
        steps: int = 20,
        eta: float = 1.0,
        guidance: float = 5.0,
        dtype: DTypeName = "float32",
        last_sigma: Literal["keep", "zero"] = "keep",
    ) -> None:
        if guidance < 1:
            raise ValueError(f"guidance must be at least 1 (1 turns it off), got {guidance}")
        scheduler = load_part(DDIMScheduler.from_pretrained, model, "scheduler")
        if scheduler.config.prediction_type != "epsilon":
            raise ValueError(
                f"{model!r} predicts {scheduler.config.prediction_type!r}; StableDiffusion needs 'epsilon'"
            )
        self.model, self.guidance = model, guidance
        self.schedule = Schedule.from_scheduler(scheduler, steps, eta, last_sigma)
        self.dtype = getattr(torch, dtype)
        self.device = torch.device("cpu")
        self.tokenizer = load_part(CLIPTokenizer.from_pretrained, model, "tokenizer")
        self.text = frozen(load_weights(CLIPTextModel.from_pretrained, model, "text_encoder", dtype=self.dtype))
        weights = {"torch_dtype": self.dtype, "low_cpu_mem_usage": False}  # the quick way needs accelerate
        self.unet = frozen(load_weights(UNet2DConditionModel.from_pretrained, model, "unet", **weights))
        self.vae = frozen(load_weights(AutoencoderKL.from_pretrained, model, "vae", **weights))
        self.alphas_cumprod = scheduler.alphas_cumprod
        side = self.unet.config.sample_size
        self.latent_shape = (self.unet.config.in_channels, side, side)

    def encode(self, prompts: Sequence[str]) -> Condition:
        """Text embeddings of the prompts and of the empty one; a prompt that is too long is cut, with a warning."""
        return Condition(self._embed(prompts), self._embed([""]).expand(len(prompts), -1, -1))

    def eps(self, x: Latents, step: int, condition: Condition) -> Latents:
        timestep = torch.full((len(x),), self.schedule.timesteps[step], device=x.device)
        if self.guidance == 1:
            return self.count(self._unet(x, timestep, condition.positive), 1)
        both = torch.cat([condition.negative, condition.positive])
        predicted = self.count(self._unet(x.repeat(2, 1, 1, 1), timestep.repeat(2), both), 2)
        negative, positive = predicted.chunk(2)
        return negative + self.guidance * (positive - negative)

    def denoise(self, x: Latents, timestep: Tensor, condition: Condition) -> Latents:
        return self.count(self._unet(x, timestep, condition.positive), 1)

    def decode(self, latents: Latents) -> Images:
        self.spent += Compute(vae=1)
        return self.vae.decode(latents.to(self.dtype) / self.vae.config.scaling_factor).sample.to(latents.dtype)

    def alpha(self, timestep: Tensor) -> Tensor:
        return self.alphas_cumprod.to(timestep.device)[timestep]

    def to(self, device: torch.device | str) -> "StableDiffusion":
        self.device = torch.device(device)
        for part in (self.text, self.unet, self.vae):
            part.to(self.device)
        return self

    def _unet(self, x: Latents, timestep: Tensor, text: Tensor) -> Latents:
        return self.unet(x.to(self.dtype), timestep, text.to(self.dtype)).sample.to(x.dtype)

    @torch.no_grad()
    def _embed(self, prompts: Sequence[str]) -> Tensor:
        longest = self.tokenizer.model_max_length
        full = self.tokenizer(list(prompts)).input_ids
        for prompt, ids in zip(prompts, full, strict=True):
            if len(ids) > longest:
                cut = self.tokenizer.decode(ids[longest - 1 : -1])
                logger.warning("the prompt %.60r is longer than %d tokens: %.60r is cut off", prompt, longest, cut)
        tokens = self.tokenizer(
            list(prompts), padding="max_length", max_length=longest, truncation=True, return_tensors="pt"
        )
        return self.text(tokens.input_ids.to(self.device)).last_hidden_state


def frozen(module: Any) -> Any:
    """Eval mode, and no parameter requires grad: a backward pass then costs about one forward, not two."""
    return module.eval().requires_grad_(False)
