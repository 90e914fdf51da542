"""What all latent diffusion models share: a denoiser between a text encoder and a VAE, with guidance."""

import math
from abc import abstractmethod
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.checkpoint import checkpoint

from ..diffusion import Prediction, Schedule, from_noise, from_velocity
from ..flow import from_flow, to_flow
from ..types import Compute, Images, Latents
from .base import Backbone, Condition, Text
from .compiled import Compile

DTypeName = Literal["float32", "bfloat16", "float16", "float64"]
READINGS = {"epsilon": from_noise, "v_prediction": from_velocity, "flow_prediction": from_flow}
FUSED = [SDPBackend.FLASH_ATTENTION, SDPBackend.CUDNN_ATTENTION, SDPBackend.EFFICIENT_ATTENTION]
FEW = 1024  # positions of the latents; SD 1.5 has 4096


class LatentDiffusion(Backbone):
    """A frozen denoiser of latents; sampler arithmetic stays in fp32 whatever the dtype of the weights.

    Attributes:
        model: the name it was loaded by.
        guidance: scale w of eps_u + w (eps_c - eps_u); at 1 the unconditional branch is not computed.
        prediction: `epsilon`, `v_prediction` (Salimans and Ho 2022) or `flow_prediction` (see `mira_pl.flow`).
        predictions: what this class of models can be trained to predict.
        denoiser: U-Net or transformer.
        vae: decoder of the latents.
        encoders: text encoders, which are on the device only while they encode.
        encode_on_cpu: they never are.
        compile: how the denoiser is compiled, see `compiled`.
        networks: how many of them one prediction asks; two where a LoRA is annealed.
    """

    encode_on_cpu = False
    networks = 1
    compile: Compile = "none"

    def __init__(
        self, model: str, schedule: Schedule, guidance: float, prediction: str, alphas_cumprod: Tensor, dtype: DTypeName
    ) -> None:
        if not 1 <= guidance < math.inf:
            raise ValueError(f"guidance must be a finite number of at least 1 (1 turns it off), got {guidance}")
        if prediction not in self.predictions:
            raise ValueError(
                f"{model!r} predicts {prediction!r}; {type(self).__name__} needs {' or '.join(self.predictions)}"
            )
        self.model, self.schedule, self.guidance, self.prediction = model, schedule, guidance, prediction
        self.alphas_cumprod, self.dtype = alphas_cumprod, getattr(torch, dtype)
        self.device = torch.device("cpu")

    predictions: ClassVar[tuple[str, ...]] = ("epsilon", "v_prediction")
    denoiser: Any
    vae: Any
    encoders: tuple[Any, ...]

    @abstractmethod
    def run(self, x: Latents, timestep: Tensor, text: Text) -> Latents:
        """The denoiser's own output for latents and text of the weights' dtype."""

    @abstractmethod
    def embed(self, prompts: Sequence[str]) -> Text:
        """Encoded prompts, on the device that the encoders are on."""

    def unconditional(self, count: int) -> Text:
        """The empty prompt, `count` times."""
        return self.embed([""]).map(lambda part: part.expand(count, *part.shape[1:]))

    @torch.no_grad()
    def encode(self, prompts: Sequence[str]) -> Condition:
        """Encoded prompts and the empty one; a prompt that is too long is cut, with a warning."""
        for encoder in self.encoders:
            encoder.to("cpu" if self.encode_on_cpu else self.device)
        positive, negative = self.embed(prompts), self.unconditional(len(prompts))
        for encoder in self.encoders:
            encoder.to("cpu")
        return Condition(*(text.map(lambda part: part.to(self.device)) for text in (positive, negative)))

    def predict(self, x: Latents, step: int, condition: Condition) -> Prediction:
        output, _ = self.guided_output(x, step, condition)
        return READINGS[self.prediction](x, output, self.schedule.alpha[step])

    def guided(self, x: Latents, step: int, condition: Condition) -> tuple[Prediction, Latents]:
        read, alpha = READINGS[self.prediction], self.schedule.alpha[step]
        output, pull = self.guided_output(x, step, condition)
        # Readings are linear in x and output: what differs by `pull` alone differs by its reading at x = 0.
        return read(x, output, alpha), read(torch.zeros_like(x), pull, alpha).eps

    def guided_output(self, x: Latents, step: int, condition: Condition) -> tuple[Latents, Latents]:
        """What the denoiser was trained to predict, guided, and what the prompt adds to it; 0 without guidance."""
        timestep = torch.full((len(x),), self.schedule.timesteps[step], device=x.device)
        alpha = self.schedule.alpha[step]  # timesteps may lie between those of training: the schedule knows their level
        if self.guidance == 1:
            output = self.count(self.output(x, timestep, alpha, condition.positive), self.networks)
            return output, torch.zeros_like(output)
        both = condition.negative.then(condition.positive)
        pair = self.count(self.output(x.repeat(2, 1, 1, 1), timestep.repeat(2), alpha, both), 2 * self.networks)
        negative, positive = pair.chunk(2)
        pull = positive - negative
        return negative + self.guidance * pull, pull

    def denoise(self, x: Latents, timestep: Tensor, condition: Condition) -> Latents:
        alpha = self.alpha(timestep).view(-1, 1, 1, 1).to(x.dtype)
        output = self.count(self.output(x, timestep, alpha, condition.positive), self.networks)
        return READINGS[self.prediction](x, output, alpha).eps

    def output(self, x: Latents, timestep: Tensor, alpha: Tensor, text: Text) -> Latents:
        """What the denoiser was trained to predict, unguided, fp32."""
        entering = to_flow(x, alpha) if self.prediction == "flow_prediction" else x
        with chosen_attention(x, self.dtype):
            output = self.run(entering.to(self.dtype), timestep, text)
        # The next replay of a CUDA graph overwrites what this one gave.
        return output.to(x.dtype, copy=self.compile == "graphs")

    def decode(self, latents: Latents) -> Images:
        self.spent += Compute(vae=1)
        scaled = latents.to(self.vae.dtype) / self.vae.config.scaling_factor
        shift = self.vae.config.get("shift_factor")  # of the VAEs of SD3 and FLUX
        return self.vae.decode(scaled if shift is None else scaled + shift).sample.to(latents.dtype)

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


def chosen_attention(x: Latents, dtype: torch.dtype) -> AbstractContextManager:
    """The attention kernel for latents `x` and weights of `dtype`; where none is named, torch chooses.

    On CUDA it is a fused kernel or none: torch falls back to `math` in silence, which keeps all scores for the backward
    pass, 7.4 GB instead of 1.6 for a guided step of SD 1.5. float64, which is for checking gradients, has no other. On
    a CPU in bfloat16 it is `math`, as long as the scores are few: the backward pass of the fused one takes a third of
    the time of a whole gradient of the emoji U-Net.
    """
    if x.device.type == "cuda" and dtype != torch.float64:
        return sdpa_kernel(FUSED)
    few = x.shape[-2:].numel() <= FEW
    return sdpa_kernel(SDPBackend.MATH) if x.device.type == "cpu" and dtype == torch.bfloat16 and few else nullcontext()


def checkpointed(vae: Any, wanted: bool) -> Any:
    """The VAE; if wanted, its decoder keeps only its blocks' inputs for a gradient and computes the rest again."""
    if wanted:
        vae.enable_gradient_checkpointing(partial(checkpoint, use_reentrant=False, preserve_rng_state=False))
    return vae
