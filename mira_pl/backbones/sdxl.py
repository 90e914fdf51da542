"""Stable Diffusion XL and its one-step student SDXL-Turbo."""

from collections.abc import Sequence
from typing import Any

import torch
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from torch import Tensor
from transformers import CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

from ..hub import Need, layouts, ready
from ..hub.loading import load_part
from ..hub.need import read_json
from ..schedules import LastSigma, Sampler, make_schedule, one_step
from ..text import tokenize
from ..types import Latents
from .annealed import Anneal, with_loras
from .base import Text
from .compiled import Compile, laid_out
from .latent import DTypeName, LatentDiffusion, checkpointed, frozen
from .lora import lora_needs
from .single_file import XL, load_network, model_needs, settled


class SDXL(LatentDiffusion):
    """A frozen SDXL: two text encoders, a U-Net that also reads the pooled prompt and the picture's size, a VAE.

    SDXL-Turbo is `model: stabilityai/sdxl-turbo, steps: 1, guidance: 1, sampler: euler_ancestral`; Hyper-SD in one step
    is `lora: [ByteDance/Hyper-SD/Hyper-SDXL-1step-lora.safetensors], guidance: 1, one_step_at: 800`.

    Args:
        model: a hub id, a local folder in diffusers layout, or a .safetensors file of the original layout (also
            owner/repository/file.safetensors of the hub).
        steps: T, sampling steps.
        eta: noise of DDIM, 0 to 1; 1 as in the MIRA paper, section 5.
        guidance: classifier-free guidance scale; 5 as in the paper. 1 turns it off.
        dtype: of the weights.
        last_sigma: see `StableDiffusion`.
        sampler: see `mira_pl.schedules.make_schedule`.
        one_step_at: see `PixArt`.
        vae: another VAE, such as madebyollin/sdxl-vae-fp16-fix; None is the model's own, which float16 would overflow,
            so that it then stays in float32.
        config: with a single file, the folder or hub id in diffusers layout that gives everything but the weights; None
            is stabilityai/stable-diffusion-xl-base-1.0.
        lora: see `StableDiffusion`.
        lora_scale: see `StableDiffusion`.
        anneal: see `StableDiffusion`.
        checkpoint_vae: see `StableDiffusion`.
        compile: see `StableDiffusion`.
        channels_last: see `StableDiffusion`.
    """

    def __init__(
        self,
        model: str = "stabilityai/stable-diffusion-xl-base-1.0",
        steps: int = 50,
        eta: float = 1.0,
        guidance: float = 5.0,
        dtype: DTypeName = "float32",
        last_sigma: LastSigma = "keep",
        sampler: Sampler = "ddim",
        one_step_at: int | None = None,
        vae: str | None = None,
        config: str | None = None,
        lora: Sequence[str] = (),
        lora_scale: float | Sequence[float] = 1.0,
        anneal: Anneal = None,
        checkpoint_vae: bool = True,
        compile: Compile = "none",
        channels_last: bool = False,
    ) -> None:
        needs = settled(self.needs, model, vae, config, lora)
        described = read_json(ready(needs["pipeline"]).files["model_index.json"])
        scheduler = load_part(DDIMScheduler.from_pretrained, needs["scheduler"])
        alphas = scheduler.alphas_cumprod
        schedule = (
            make_schedule(scheduler.config, sampler, steps, eta, last_sigma)
            if one_step_at is None
            else one_step(alphas, one_step_at)
        )
        super().__init__(model, schedule, guidance, scheduler.config.prediction_type, alphas, dtype)
        self.compile = compile
        tokenizers = (load_part(CLIPTokenizer.from_pretrained, needs[name]) for name in ("tokenizer", "tokenizer_2"))
        self.tokenizers = tuple(tokenizers)
        self.encoders = (
            frozen(load_network(CLIPTextModel, needs, "text_encoder", self.dtype)),
            frozen(load_network(CLIPTextModelWithProjection, needs, "text_encoder_2", self.dtype)),
        )
        unet = laid_out(frozen(load_network(UNet2DConditionModel, needs, "unet", self.dtype)), channels_last)
        encoders = {"text_encoder": self.encoders[0], "text_encoder_2": self.encoders[1]}
        self.networks = 1 if anneal is None else 2
        self.denoiser = with_loras(unet, encoders, lora, lora_scale, anneal, schedule, compile)
        self.vae = checkpointed(frozen(load_network(AutoencoderKL, needs, "vae", self.dtype)), checkpoint_vae)
        if vae is None and self.vae.config.force_upcast and self.dtype == torch.float16:
            self.vae.float()  # it would overflow
        self.zero_empty = bool(described.get("force_zeros_for_empty_prompt", True))
        side = self.denoiser.config.sample_size
        self.latent_shape = (self.denoiser.config.in_channels, side, side)
        self.pixels = side * 2 ** (len(self.vae.config.block_out_channels) - 1)

    @staticmethod
    def needs(model: str, vae: str | None, config: str | None, lora: Sequence[str], **_: Any) -> dict[str, Need]:
        other = {} if vae is None else {"vae": layouts.diffusers_weights(vae, "")}
        return model_needs(folder_needs, model, config, (XL,), "SDXL") | other | lora_needs(lora)

    def run(self, x: Latents, timestep: Tensor, text: Text) -> Latents:
        sizes = x.new_full((len(x), 6), self.pixels)  # filled on the device: a copy to it would make the host wait
        sizes[:, 2:4].zero_()  # original size, crop, target size
        added = {"text_embeds": text.pooled, "time_ids": sizes}
        return self.denoiser(x, timestep, text.tokens, added_cond_kwargs=added).sample

    def embed(self, prompts: Sequence[str]) -> Text:
        """The last layer but one of both encoders side by side, and the second's pooled embedding."""
        hidden, pooled = [], None
        for tokenizer, encoder in zip(self.tokenizers, self.encoders, strict=True):
            ids = tokenize(tokenizer, prompts, tokenizer.model_max_length, "SDXL").input_ids.to(encoder.device)
            output = encoder(ids, output_hidden_states=True)
            hidden.append(output.hidden_states[-2])
            pooled = output[0]  # of the encoder with a projection, which comes last
        return Text(torch.cat(hidden, dim=-1), pooled)

    def unconditional(self, count: int) -> Text:
        empty = super().unconditional(count)
        return empty.map(torch.zeros_like) if self.zero_empty else empty


def folder_needs(model: str) -> dict[str, Need]:
    """Of a folder or repository in diffusers layout."""
    tokenizers = {name: layouts.tokenizer(model, name, "vocab.json") for name in ("tokenizer", "tokenizer_2")}
    encoders = {name: layouts.transformers_weights(model, name) for name in ("text_encoder", "text_encoder_2")}
    return {
        "pipeline": layouts.pipeline(model, "StableDiffusionXLPipeline"),
        "scheduler": layouts.scheduler(model),
        **tokenizers,
        **encoders,
        "unet": layouts.diffusers_weights(model, "unet"),
        "vae": layouts.diffusers_weights(model, "vae"),
    }
