"""Sana: a rectified flow on latents 32 times smaller than the picture; Gemma reads the prompt."""

from collections.abc import Sequence
from inspect import signature
from typing import Any

from diffusers import AutoencoderDC, FlowMatchEulerDiscreteScheduler, SanaPipeline, SanaTransformer2DModel
from torch import Tensor
from transformers import Gemma2Model, GemmaTokenizer

from ..flow import flow_schedule, training_levels
from ..hub import Need, layouts, ready
from ..hub.loading import load_part, load_weights
from ..text import tokenize
from ..types import Latents
from .base import Text
from .compiled import Compile, compiled
from .latent import DTypeName, LatentDiffusion, frozen

LONGEST = 300  # tokens, as Sana was trained


class Sana(LatentDiffusion):
    """A frozen Sana 0.6 B or 1.6 B, or SANA 1.5: Gemma 2, linear transformer, deep-compression autoencoder.

    It is sampled by Euler's method on the times of its authors' flow-Euler sampler; the Flow-DPM-Solver that its
    scheduler file names is of second order and no schedule of one transition.

    Args:
        model: a hub id, or a local folder in diffusers layout.
        steps: T, sampling steps.
        eta: noise of the sampler, 0 (Euler's method) to 1.
        guidance: classifier-free guidance scale, 4.5 as in its authors' examples; 1 turns it off.
        dtype: of the weights.
        compile: see `StableDiffusion`.
    """

    predictions = ("flow_prediction",)

    def __init__(
        self,
        model: str = "Efficient-Large-Model/SANA1.5_1.6B_1024px_diffusers",
        steps: int = 20,
        eta: float = 0.0,
        guidance: float = 4.5,
        dtype: DTypeName = "float32",
        compile: Compile = "none",
    ) -> None:
        needs = self.needs(model)
        ready(needs["pipeline"])
        found = load_part(FlowMatchEulerDiscreteScheduler.from_pretrained, needs["scheduler"]).config
        scheduler = FlowMatchEulerDiscreteScheduler(shift=found.get("flow_shift", found.shift))
        schedule = flow_schedule(scheduler, steps, eta, tokens=1)  # the shift does not depend on the size
        prediction = found.get("prediction_type", "flow_prediction")
        super().__init__(model, schedule, guidance, prediction, training_levels(), dtype)
        self.compile = compile
        self.tokenizer = load_part(GemmaTokenizer.from_pretrained, needs["tokenizer"], padding_side="right")
        self.encoders = (frozen(load_weights(Gemma2Model, needs["text_encoder"], self.dtype)),)
        transformer = frozen(load_weights(SanaTransformer2DModel, needs["transformer"], self.dtype))
        self.denoiser = compiled(transformer, compile)
        self.vae = frozen(load_weights(AutoencoderDC, needs["vae"], self.dtype))
        config = self.denoiser.config
        self.latent_shape = (config.in_channels, config.sample_size, config.sample_size)

    @staticmethod
    def needs(model: str, **_: Any) -> dict[str, Need]:
        return {
            "pipeline": layouts.pipeline(model, "SanaPipeline"),
            "scheduler": layouts.scheduler(model),
            "tokenizer": layouts.tokenizer(model, "tokenizer", "tokenizer.model"),
            "text_encoder": layouts.transformers_weights(model, "text_encoder"),
            "transformer": layouts.diffusers_weights(model, "transformer"),
            "vae": layouts.diffusers_weights(model, "vae"),
        }

    def run(self, x: Latents, timestep: Tensor, text: Text) -> Latents:
        return self.denoiser(
            x,
            encoder_hidden_states=text.tokens,
            encoder_attention_mask=text.mask,
            timestep=timestep * self.denoiser.config.timestep_scale,
        ).sample

    def embed(self, prompts: Sequence[str]) -> Text:
        return self._embed(prompts, instruction())

    def unconditional(self, count: int) -> Text:
        return self._embed([""], "").map(lambda part: part.expand(count, *part.shape[1:]))

    def _embed(self, prompts: Sequence[str], before: str) -> Text:
        """Gemma's embeddings of the lower-cased prompts: its first token, and the last 299 with the prompt in them."""
        longest = len(self.tokenizer.encode(before)) + LONGEST - 2 if before else LONGEST
        tokens = tokenize(self.tokenizer, [before + prompt.lower().strip() for prompt in prompts], longest, "Sana")
        encoder = self.encoders[0]
        mask = tokens.attention_mask.to(encoder.device)
        hidden = encoder(tokens.input_ids.to(encoder.device), attention_mask=mask).last_hidden_state
        kept = [0, *range(longest - LONGEST + 1, longest)]
        return Text(hidden[:, kept], mask=mask[:, kept].bool())


def instruction() -> str:
    """What Sana was trained to read before every prompt (Xie et al. 2024, section 3.1); diffusers holds the words."""
    return "\n".join(signature(SanaPipeline.__call__).parameters["complex_human_instruction"].default)
