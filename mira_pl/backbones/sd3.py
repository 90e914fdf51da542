"""Stable Diffusion 3 and 3.5: a rectified flow that reads two CLIP towers and, if wanted, T5."""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL, FlowMatchEulerDiscreteScheduler, SD3Transformer2DModel
from torch import Tensor
from transformers import CLIPTextModelWithProjection, CLIPTokenizer, T5EncoderModel, T5Tokenizer

from ..flow import flow_schedule, training_levels
from ..hub import Need, layouts, ready
from ..hub.loading import load_part, load_weights
from ..text import tokenize
from ..types import Latents
from .base import Text
from .compiled import Compile, compiled
from .latent import DTypeName, LatentDiffusion, checkpointed, frozen

LONGEST = 256  # tokens of T5


class StableDiffusion3(LatentDiffusion):
    """A frozen Stable Diffusion 3 or 3.5: CLIP-L, CLIP-G, T5, joint transformer, VAE.

    SD3.5 Large Turbo is `model: stabilityai/stable-diffusion-3.5-large-turbo, steps: 4, guidance: 1`.

    Args:
        model: a hub id, or a local folder in diffusers layout.
        steps: T, sampling steps; 28 as on the card of SD3.5 Large, that of Medium says 40.
        eta: noise of the sampler, 0 (Euler's method, as its authors sample) to 1.
        guidance: classifier-free guidance scale; 4.5 as on the card of SD3.5 Medium, that of Large says 3.5. 1 is off.
        dtype: of the weights.
        t5: whether T5 (its 4.8 B parameters) reads the prompt; where it does not, its embeddings are 0.
        checkpoint_vae: see `StableDiffusion`.
        compile: see `StableDiffusion`.
    """

    predictions = ("flow_prediction",)

    def __init__(
        self,
        model: str = "stabilityai/stable-diffusion-3.5-medium",
        steps: int = 28,
        eta: float = 0.0,
        guidance: float = 4.5,
        dtype: DTypeName = "float32",
        t5: bool = True,
        checkpoint_vae: bool = True,
        compile: Compile = "none",
    ) -> None:
        needs = self.needs(model, t5)
        ready(needs["pipeline"])
        config = load_part(SD3Transformer2DModel.load_config, needs["transformer"])
        side = config["sample_size"]
        self.latent_shape = (config["in_channels"], side, side)
        scheduler = load_part(FlowMatchEulerDiscreteScheduler.from_pretrained, needs["scheduler"])
        schedule = flow_schedule(scheduler, steps, eta, tokens=(side // config["patch_size"]) ** 2)
        prediction = scheduler.config.get("prediction_type", "flow_prediction")
        super().__init__(model, schedule, guidance, prediction, training_levels(), dtype)
        self.compile = compile
        denoiser = load_weights(SD3Transformer2DModel, needs["transformer"], self.dtype)
        denoiser = frozen(denoiser.to(self.dtype))  # diffusers may leave it in the dtype of the file
        self.denoiser = compiled(denoiser, compile)
        self.vae = checkpointed(frozen(load_weights(AutoencoderKL, needs["vae"], self.dtype)), checkpoint_vae)
        tokenizers = (load_part(CLIPTokenizer.from_pretrained, needs[name]) for name in ("tokenizer", "tokenizer_2"))
        self.tokenizers = tuple(tokenizers)
        self.clips = tuple(
            frozen(load_weights(CLIPTextModelWithProjection, needs[name], self.dtype))
            for name in ("text_encoder", "text_encoder_2")
        )
        self.t5 = self.t5_tokenizer = None
        if t5:
            self.t5_tokenizer = load_part(T5Tokenizer.from_pretrained, needs["tokenizer_3"])
            self.t5 = frozen(load_weights(T5EncoderModel, needs["text_encoder_3"], self.dtype))
        self.encoders = (*self.clips, self.t5) if t5 else self.clips

    @staticmethod
    def needs(model: str, t5: bool, **_: Any) -> dict[str, Need]:
        needs = {
            "pipeline": layouts.pipeline(model, "StableDiffusion3Pipeline"),
            "scheduler": layouts.scheduler(model),
            "transformer": layouts.diffusers_weights(model, "transformer"),
            "vae": layouts.diffusers_weights(model, "vae"),
        }
        for number, words in (("", "vocab.json"), ("_2", "vocab.json"), *([("_3", "spiece.model")] if t5 else [])):
            needs[f"tokenizer{number}"] = layouts.tokenizer(model, f"tokenizer{number}", words)
            needs[f"text_encoder{number}"] = layouts.transformers_weights(model, f"text_encoder{number}")
        return needs

    def run(self, x: Latents, timestep: Tensor, text: Text) -> Latents:
        return self.denoiser(x, text.tokens, text.pooled, timestep).sample

    def embed(self, prompts: Sequence[str]) -> Text:
        """CLIP's last layers but one side by side, padded to the width of T5, then T5; CLIP's pooled embeddings."""
        hidden, pooled = [], []
        for tokenizer, clip in zip(self.tokenizers, self.clips, strict=True):
            ids = tokenize(tokenizer, prompts, tokenizer.model_max_length, "CLIP of SD3").input_ids.to(clip.device)
            output = clip(ids, output_hidden_states=True)
            hidden.append(output.hidden_states[-2])
            pooled.append(output.text_embeds)
        words = torch.cat(hidden, dim=-1)
        more = self._t5(prompts, words)
        words = F.pad(words, (0, more.shape[-1] - words.shape[-1]))
        return Text(torch.cat([words, more], dim=1), torch.cat(pooled, dim=-1))

    def _t5(self, prompts: Sequence[str], like: Tensor) -> Tensor:
        """T5's embeddings of prompt and padding alike, as the transformer was trained on."""
        if self.t5 is None:
            return like.new_zeros(len(prompts), LONGEST, self.denoiser.config.joint_attention_dim)
        ids = tokenize(self.t5_tokenizer, prompts, LONGEST, "T5 of SD3").input_ids
        return self.t5(ids.to(self.t5.device)).last_hidden_state
