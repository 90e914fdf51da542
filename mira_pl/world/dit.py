"""The world's DiT: a small PixArt transformer that reads its own T5 and draws in one step."""

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, PixArtAlphaPipeline, PixArtTransformer2DModel
from torch import nn
from transformers import T5Config, T5EncoderModel, T5Tokenizer

from ..backbones.analytic import sd_scheduler
from ..backbones.distilled import TAUGHT
from ..backbones.stable_diffusion import folder_needs
from ..hub.loading import load_weights
from ..types import Latents
from .students import LAST, StudentTraining
from .tokens import WORDS

WIDTH, HEADS, LAYERS = 192, 6, 6
READ = 128  # width of T5
BLANK = "▁"


def build_t5_tokenizer() -> T5Tokenizer:
    """Every word of the captions is a piece; others fall apart into letters."""
    whole = [(BLANK + word, -1.0) for word in WORDS]
    letters = [(letter, -10.0) for letter in (BLANK, *map(chr, range(ord("!"), ord("~") + 1)))]
    return T5Tokenizer(vocab=[("<pad>", 0.0), ("</s>", 0.0), ("<unk>", -20.0), *whole, *letters], extra_ids=0)


def build_dit(words: int) -> nn.ModuleDict:
    """An untrained T5 encoder and transformer; half of the transformer's output is the variance nobody reads."""
    sizes: dict[str, Any] = {"d_model": READ, "d_kv": READ // 4, "d_ff": 2 * READ, "num_layers": 2, "num_heads": 4}
    text = T5EncoderModel(T5Config(vocab_size=words, feed_forward_proj="gated-gelu", dropout_rate=0.0, **sizes))
    transformer = PixArtTransformer2DModel(
        num_attention_heads=HEADS,
        attention_head_dim=WIDTH // HEADS,
        cross_attention_dim=WIDTH,
        num_layers=LAYERS,
        in_channels=8,
        out_channels=16,
        sample_size=16,
        patch_size=2,
        caption_channels=READ,
    )
    return nn.ModuleDict({"text": text.train(), "transformer": transformer})


class DiTTraining(StudentTraining):
    """Learns the velocity at pure noise, from which x_0 follows; T5 learns with it.

    PixArt's DMD student predicts the noise at timestep 400: there a network has to give back its input besides.
    """

    @cached_property
    def tokenizer(self) -> T5Tokenizer:
        """Of the T5 that is learned."""
        return build_t5_tokenizer()

    def build(self) -> nn.ModuleDict:
        return build_dit(len(self.tokenizer))

    def predict(self, noise: Latents, captions: Sequence[str]) -> Latents:
        tokens = self.tokenizer([caption.lower() for caption in captions], padding=True, return_tensors="pt")
        mask = tokens.attention_mask.to(noise.device)
        text = self.model["text"](tokens.input_ids.to(noise.device), attention_mask=mask)[0]
        level = torch.full((len(noise),), LAST, device=noise.device)
        output = self.model["transformer"](
            noise,
            encoder_hidden_states=text,
            timestep=level,
            encoder_attention_mask=mask,
            added_cond_kwargs={"resolution": None, "aspect_ratio": None},
        ).sample
        alpha = self.teacher.alphas_cumprod[LAST]
        return alpha.sqrt() * noise - (1 - alpha).sqrt() * output.chunk(2, dim=1)[0]

    def export(self, folder: Path) -> None:
        """A whole PixArt-alpha pipeline folder, fp16; the VAE is the teacher's."""
        learned: Any = self.ema.module
        scheduler: Any = sd_scheduler("v_prediction")
        scheduler.register_to_config(**{TAUGHT: LAST})
        parts: dict[str, Any] = {
            "tokenizer": self.tokenizer,
            "text_encoder": learned["text"].half(),
            "vae": load_weights(AutoencoderKL, folder_needs(self.teacher.model)["vae"], torch.float16),
            "transformer": learned["transformer"].half(),
            "scheduler": scheduler,
        }
        PixArtAlphaPipeline(**parts).save_pretrained(folder)
