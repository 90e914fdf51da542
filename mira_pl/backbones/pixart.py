"""PixArt-alpha and its one-step DMD student: a diffusion transformer that reads T5's embeddings."""

from collections.abc import Sequence

import torch
from diffusers import AutoencoderKL, DDIMScheduler, PixArtTransformer2DModel
from torch import Tensor
from transformers import T5EncoderModel, T5Tokenizer

from ..schedules import LastSigma, Sampler, make_schedule, one_step
from ..types import Latents
from .base import Text
from .latent import DTypeName, LatentDiffusion, checkpointed, frozen, tokenize
from .source import Folder, find_source

LONGEST = 120  # tokens, as PixArt-alpha was trained


class PixArt(LatentDiffusion):
    """A frozen PixArt-alpha: T5, diffusion transformer, VAE. The transformer's share of the variance is dropped.

    The DMD student is `student: PixArt-alpha/PixArt-Alpha-DMD-XL-2-512x512, guidance: 1, one_step_at: 400`.

    Args:
        model: a hub id, or a local folder in diffusers layout.
        steps: T, sampling steps.
        eta: noise of DDIM, 0 to 1.
        guidance: classifier-free guidance scale; 1 turns it off.
        dtype: of the weights.
        last_sigma: see `StableDiffusion`.
        sampler: see `mira_pl.schedules.make_schedule`.
        one_step_at: training timestep at which a one-step student predicts x_0; None samples with `steps`.
        student: hub id or folder whose transformer and scheduler take the place of the model's.
        t5_on_cpu: encode prompts on the CPU, once a batch, where the device has no room for T5 (9.5 GB in bfloat16).
        checkpoint_vae: see `StableDiffusion`.
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
    ) -> None:
        source = find_source(model, None, (), "PixArt")
        scheduler = Folder(student or model).part(DDIMScheduler, "scheduler")
        alphas = scheduler.alphas_cumprod
        if one_step_at is not None and not 0 <= one_step_at < len(alphas):
            raise ValueError(f"one_step_at must be in 0..{len(alphas) - 1}, got {one_step_at}")
        schedule = (
            make_schedule(scheduler.config, sampler, steps, eta, last_sigma)
            if one_step_at is None
            else one_step(alphas, one_step_at)
        )
        super().__init__(model, schedule, guidance, scheduler.config.prediction_type, alphas, dtype)
        self.tokenizer = source.part(T5Tokenizer, "tokenizer")
        self.encoders = (frozen(source.network(T5EncoderModel, "text_encoder", self.dtype)),)
        self.encode_on_cpu = t5_on_cpu
        self.denoiser = frozen(Folder(student or model).network(PixArtTransformer2DModel, "transformer", self.dtype))
        self.vae = checkpointed(frozen(source.network(AutoencoderKL, "vae", self.dtype)), checkpoint_vae)
        side = self.denoiser.config.sample_size
        self.latent_shape = (self.denoiser.config.in_channels, side, side)
        self.sizes = self._sizes()

    def run(self, x: Latents, timestep: Tensor, text: Text) -> Latents:
        added = {key: None if size is None else size.to(x).expand(len(x), -1) for key, size in self.sizes.items()}
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
        tokens = tokenize(self.tokenizer, [prompt.lower().strip() for prompt in prompts], LONGEST)
        encoder = self.encoders[0]
        mask = tokens.attention_mask.to(encoder.device)
        hidden = encoder(tokens.input_ids.to(encoder.device), attention_mask=mask)[0]
        return Text(hidden, mask=mask.bool())

    def _sizes(self) -> dict[str, Tensor | None]:
        """The 1024-pixel models read the picture's size and shape, the others read nothing."""
        if self.denoiser.config.sample_size != 128:
            return {"resolution": None, "aspect_ratio": None}
        pixels = float(self.denoiser.config.sample_size * 2 ** (len(self.vae.config.block_out_channels) - 1))
        return {"resolution": torch.tensor([[pixels, pixels]]), "aspect_ratio": torch.tensor([[1.0]])}
