"""PixArt-alpha and its one-step DMD student: a diffusion transformer that reads T5's embeddings."""

from collections.abc import Sequence
from typing import Any

from diffusers import AutoencoderKL, DDIMScheduler, PixArtTransformer2DModel
from torch import Tensor
from transformers import T5EncoderModel, T5Tokenizer

from ..hub import Need, layouts
from ..hub.loading import load_part, load_weights
from ..schedules import LastSigma, Sampler, make_schedule, one_step
from ..text import tokenize
from ..types import Latents
from .base import Text
from .compiled import Compile, compiled
from .distilled import TAUGHT, refuse_misfit, refuse_untaught
from .latent import DTypeName, LatentDiffusion, checkpointed, frozen
from .single_file import settled

LONGEST = 120  # tokens, as PixArt-alpha was trained
TRANSFORMERS = ("PixArtTransformer2DModel", "Transformer2DModel")  # the published ones have the older name


class PixArt(LatentDiffusion):
    """A frozen PixArt-alpha: T5, diffusion transformer, VAE. The transformer's share of the variance is dropped.

    The DMD student is `student: PixArt-alpha/PixArt-Alpha-DMD-XL-2-512x512, guidance: 1, one_step_at: 400`.

    Args:
        model: a hub id, a local folder in diffusers layout, or `emoji`, the packaged one-step model, which is
            `guidance: 1, one_step_at: 999`.
        steps: T, sampling steps.
        eta: noise of DDIM, 0 to 1.
        guidance: classifier-free guidance scale; 1 turns it off.
        dtype: of the weights.
        last_sigma: see `StableDiffusion`.
        sampler: see `mira_pl.schedules.make_schedule`.
        one_step_at: training timestep at which a one-step student predicts x_0; None samples with `steps`.
        student: hub id or folder whose transformer and scheduler take the place of the model's. One that does not fit
            is refused.
        t5_on_cpu: encode prompts on the CPU, once a batch, where the device has no room for T5 (9.5 GB in bfloat16).
        checkpoint_vae: see `StableDiffusion`.
        compile: see `StableDiffusion`.
    """

    def __init__(
        self,
        model: str = "PixArt-alpha/PixArt-XL-2-512x512",
        steps: int = 20,
        eta: float = 1.0,
        guidance: float = 4.5,
        dtype: DTypeName = "float32",
        last_sigma: LastSigma = "keep",
        sampler: Sampler = "ddim",
        one_step_at: int | None = None,
        student: str | None = None,
        t5_on_cpu: bool = False,
        checkpoint_vae: bool = True,
        compile: Compile = "none",
    ) -> None:
        needs = settled(self.needs, model, student)
        scheduler = load_part(DDIMScheduler.from_pretrained, needs["scheduler"])
        alphas = scheduler.alphas_cumprod
        schedule = (
            make_schedule(scheduler.config, sampler, steps, eta, last_sigma)
            if one_step_at is None
            else one_step(alphas, one_step_at)
        )
        right = f"one_step_at: {scheduler.config.get(TAUGHT)}, guidance: 1"
        refuse_untaught(student or model, scheduler.config, schedule, guidance, right)
        super().__init__(model, schedule, guidance, scheduler.config.prediction_type, alphas, dtype)
        self.compile = compile
        self.tokenizer = load_part(T5Tokenizer.from_pretrained, needs["tokenizer"])
        self.encoders = (frozen(load_weights(T5EncoderModel, needs["text_encoder"], self.dtype)),)
        self.encode_on_cpu = t5_on_cpu
        transformer = frozen(load_weights(PixArtTransformer2DModel, needs["transformer"], self.dtype))
        self.denoiser = compiled(transformer, compile)
        self.vae = checkpointed(frozen(load_weights(AutoencoderKL, needs["vae"], self.dtype)), checkpoint_vae)
        side = self.denoiser.config.sample_size
        self.latent_shape = (self.denoiser.config.in_channels, side, side)
        # The 1024-pixel models read the picture's size and shape, the others read nothing.
        self.pixels = side * 2 ** (len(self.vae.config.block_out_channels) - 1) if side == 128 else None

    @staticmethod
    def needs(model: str, student: str | None, **_: Any) -> dict[str, Need]:
        model = layouts.source_of(model, "emoji_dit")
        needs = {
            "pipeline": layouts.pipeline(model, "PixArtAlphaPipeline"),
            "scheduler": layouts.scheduler(student or model),
            "tokenizer": layouts.tokenizer(model, "tokenizer", "spiece.model"),
            "text_encoder": layouts.transformers_weights(model, "text_encoder"),
            "transformer": layouts.diffusers_weights(student or model, "transformer", *TRANSFORMERS),
            "vae": layouts.diffusers_weights(model, "vae"),
        }
        if student is not None:
            refuse_misfit(needs, "transformer", "caption_channels", "d_model")
        return needs

    def run(self, x: Latents, timestep: Tensor, text: Text) -> Latents:
        added: dict[str, Tensor | None] = {"resolution": None, "aspect_ratio": None}
        if self.pixels is not None:  # filled on the device: a copy to it would make the host wait
            added = {"resolution": x.new_full((len(x), 2), self.pixels), "aspect_ratio": x.new_ones(len(x), 1)}
        output = self.denoiser(
            x,
            encoder_hidden_states=text.tokens,
            timestep=timestep,
            added_cond_kwargs=added,
            encoder_attention_mask=text.mask,
        ).sample
        return output.chunk(2, dim=1)[0] if output.shape[1] == 2 * x.shape[1] else output

    def embed(self, prompts: Sequence[str]) -> Text:
        """T5's embeddings of the lower-cased prompts, as PixArt was trained on."""
        tokens = tokenize(self.tokenizer, [prompt.lower().strip() for prompt in prompts], LONGEST, "PixArt")
        encoder = self.encoders[0]
        mask = tokens.attention_mask.to(encoder.device)
        hidden = encoder(tokens.input_ids.to(encoder.device), attention_mask=mask)[0]
        return Text(hidden, mask=mask.bool())
