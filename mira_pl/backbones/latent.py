"""What all latent diffusion models share: a denoiser between a text encoder and a VAE, with guidance."""

import logging
from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor

from ..diffusion import Schedule
from ..types import Compute, Images, Latents
from .base import Backbone, Condition, Text

logger = logging.getLogger(__name__)
DTypeName = Literal["float32", "bfloat16", "float16", "float64"]
PREDICTIONS = ("epsilon", "v_prediction")


class LatentDiffusion(Backbone):
    """A frozen denoiser of latents; sampler arithmetic stays in fp32 whatever the dtype of the weights.

    Attributes:
        model: the name it was loaded by.
        guidance: scale w of eps_u + w (eps_c - eps_u); at 1 the unconditional branch is not computed.
        prediction: `epsilon`, or `v_prediction` (Salimans and Ho 2022).
        denoiser: U-Net or transformer.
        vae: decoder of the latents.
        encoders: text encoders, which are on the device only while they encode.
    """

    def __init__(
        self, model: str, schedule: Schedule, guidance: float, prediction: str, alphas_cumprod: Tensor, dtype: DTypeName
    ) -> None:
        if guidance < 1:
            raise ValueError(f"guidance must be at least 1 (1 turns it off), got {guidance}")
        if prediction not in PREDICTIONS:
            raise ValueError(
                f"{model!r} predicts {prediction!r}; {type(self).__name__} needs {' or '.join(PREDICTIONS)}"
            )
        self.model, self.schedule, self.guidance, self.prediction = model, schedule, guidance, prediction
        self.alphas_cumprod, self.dtype = alphas_cumprod, getattr(torch, dtype)
        self.device = torch.device("cpu")

    denoiser: Any
    vae: Any
    encoders: tuple[Any, ...]

    @abstractmethod
    def run(self, x: Latents, timestep: Tensor, text: Text) -> Latents:
        """The denoiser's own output for latents and text of the weights' dtype."""

    @abstractmethod
    def embed(self, prompts: Sequence[str]) -> Text:
        """Encoded prompts; the encoders are on the device."""

    def unconditional(self, count: int) -> Text:
        """The empty prompt, `count` times."""
        return self.embed([""]).map(lambda part: part.expand(count, *part.shape[1:]))

    @torch.no_grad()
    def encode(self, prompts: Sequence[str]) -> Condition:
        """Encoded prompts and the empty one; a prompt that is too long is cut, with a warning."""
        for encoder in self.encoders:
            encoder.to(self.device)
        condition = Condition(self.embed(prompts), self.unconditional(len(prompts)))
        for encoder in self.encoders:
            encoder.to("cpu")
        return condition

    def eps(self, x: Latents, step: int, condition: Condition) -> Latents:
        return self.guided(x, step, condition)[0]

    def guided(self, x: Latents, step: int, condition: Condition) -> tuple[Latents, Latents]:
        timestep = torch.full((len(x),), self.schedule.timesteps[step], device=x.device)
        alpha = self.schedule.alpha[step]  # timesteps may lie between those of training: the schedule knows their level
        if self.guidance == 1:
            eps = self.count(self.predict(x, timestep, alpha, condition.positive), 1)
            return eps, torch.zeros_like(eps)
        both = condition.negative.then(condition.positive)
        predicted = self.count(self.predict(x.repeat(2, 1, 1, 1), timestep.repeat(2), alpha, both), 2)
        negative, positive = predicted.chunk(2)
        return negative + self.guidance * (positive - negative), positive - negative

    def denoise(self, x: Latents, timestep: Tensor, condition: Condition) -> Latents:
        alpha = self.alpha(timestep).view(-1, 1, 1, 1).to(x.dtype)
        return self.count(self.predict(x, timestep, alpha, condition.positive), 1)

    def predict(self, x: Latents, timestep: Tensor, alpha: Tensor, text: Text) -> Latents:
        """The predicted noise, fp32; of a velocity v it is sqrt(abar) v + sqrt(1 - abar) x."""
        output = self.run(x.to(self.dtype), timestep, text).to(x.dtype)
        if self.prediction == "epsilon":
            return output
        return alpha.sqrt() * output + (1 - alpha).sqrt() * x

    def decode(self, latents: Latents) -> Images:
        self.spent += Compute(vae=1)
        return self.vae.decode(latents.to(self.vae.dtype) / self.vae.config.scaling_factor).sample.to(latents.dtype)

    def alpha(self, timestep: Tensor) -> Tensor:
        return self.alphas_cumprod.to(timestep.device)[timestep]

    def to(self, device: torch.device | str) -> "LatentDiffusion":
        self.device = torch.device(device)
        self.denoiser.to(self.device)
        self.vae.to(self.device)
        return self


def frozen(module: Any) -> Any:
    """Eval mode, and no parameter requires grad: a backward pass then costs about one forward, not two."""
    return module.eval().requires_grad_(False)


def tokenize(tokenizer: Any, prompts: Sequence[str], longest: int) -> Any:
    """Token ids and mask, padded to `longest`; what is cut off is said in a warning."""
    full = tokenizer(list(prompts)).input_ids
    for prompt, ids in zip(prompts, full, strict=True):
        if len(ids) > longest:
            cut = tokenizer.decode(ids[longest - 1 : -1])
            logger.warning("the prompt %.60r is longer than %d tokens: %.60r is cut off", prompt, longest, cut)
    return tokenizer(list(prompts), padding="max_length", max_length=longest, truncation=True, return_tensors="pt")
