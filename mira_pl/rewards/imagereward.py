"""ImageReward v1.0: BLIP's image-grounded text encoder with a head that rates the match (Xu et al. 2023)."""

import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, cast

import torch
from torch import Tensor, nn
from transformers import BertTokenizer, BlipTextConfig, BlipTextModel, BlipVisionConfig, BlipVisionModel
from typing_extensions import Self

from ..hub import Need, layouts, ready
from ..hub.hollow import frame
from ..hub.loading import last_line, layout_of, load_part, load_state_dict
from ..text import tokenize
from ..types import Images, PerJob
from .base import Reward
from .clip import AestheticHead
from .preprocess import clip_pixels
from .towers import MOST_CACHED

REPOSITORY = "THUDM/ImageReward"
FILE = "ImageReward.pt"
TOKENIZER = "bert-base-uncased"
LONGEST = 35
MEAN, STD = 0.16717362830052426, 1.0333394966054072
"""Of the raw scores of the authors' training set: published scores are standardised."""

HEAD_WIDTH = 64  # of every attention in BLIP

IN_VISION = (
    (r"cls_token", "embeddings.class_embedding"),
    (r"pos_embed", "embeddings.position_embedding"),
    (r"patch_embed\.proj\.", "embeddings.patch_embedding."),
    (r"blocks\.(\d+)\.norm([12])\.", r"encoder.layers.\1.layer_norm\2."),
    (r"blocks\.(\d+)\.attn\.qkv\.", r"encoder.layers.\1.self_attn.qkv."),
    (r"blocks\.(\d+)\.attn\.proj\.", r"encoder.layers.\1.self_attn.projection."),
    (r"blocks\.(\d+)\.mlp\.", r"encoder.layers.\1.mlp."),
    (r"norm\.", "post_layernorm."),
)


class Scorer(nn.Module):
    """The three parts of the checkpoint that the score needs.

    Args:
        vision: configuration of the image tower.
        text: configuration of the text encoder.
    """

    def __init__(self, vision: BlipVisionConfig, text: BlipTextConfig) -> None:
        super().__init__()
        self.vision = BlipVisionModel(vision)
        self.text = BlipTextModel(text, add_pooling_layer=False)
        self.head = AestheticHead(text.hidden_size)

    def forward(self, pixels: Tensor, tokens: Tensor, mask: Tensor) -> PerJob:
        """The standardised score."""
        seen = self.vision(pixel_values=pixels).last_hidden_state
        read = self.text(input_ids=tokens, attention_mask=mask, encoder_hidden_states=seen).last_hidden_state
        return (self.head(read[:, 0].float()) - MEAN) / STD


class ImageReward(Reward):
    """How well a picture fits its prompt and pleases, standardised: about -2 to 2.

    Args:
        model: hub id or local folder with ImageReward.pt, or the file itself.
        tokenizer: hub id or local folder of BERT's tokenizer.
    """

    differentiable: ClassVar[bool] = True

    def __init__(self, model: str = REPOSITORY, tokenizer: str = TOKENIZER) -> None:
        needs = self.needs(model, tokenizer)
        (file,) = ready(needs["checkpoint"]).files.values()
        self.scorer = load_scorer(file)
        self.tokenizer = load_part(BertTokenizer.from_pretrained, needs["tokenizer"])
        self.side = cast(int, self.scorer.vision.config.image_size)
        self.tokens: dict[tuple[str, ...], tuple[Tensor, Tensor]] = {}

    @staticmethod
    def needs(model: str, tokenizer: str, **_: Any) -> dict[str, Need]:
        return {
            "checkpoint": layouts.checkpoint(model, FILE),
            "tokenizer": layouts.tokenizer(tokenizer, "", "vocab.txt"),
        }

    def score(self, images: Images, prompts: Sequence[str]) -> PerJob:
        """Prompts are cut after 35 tokens, as in the original."""
        return self.scorer(clip_pixels(images, self.side), *self._tokens(tuple(prompts), images.device))

    def to(self, device: torch.device) -> Self:
        """Moves the model in place."""
        self.scorer.to(device)
        self.tokens.clear()
        return self

    @torch.inference_mode(False)  # what is cached in a validation loop must still serve a training step
    def _tokens(self, prompts: tuple[str, ...], device: torch.device) -> tuple[Tensor, Tensor]:
        """Ids and mask, copied to the device once for a batch of prompts: a copy makes the host wait."""
        if prompts not in self.tokens:
            if len(self.tokens) >= MOST_CACHED:
                self.tokens.clear()
            encoded = tokenize(self.tokenizer, prompts, LONGEST, self.name)
            self.tokens[prompts] = encoded.input_ids.to(device), encoded.attention_mask.to(device)
        return self.tokens[prompts]


def load_scorer(file: Path) -> Scorer:
    """The frozen fp32 scorer with the weights of a checkpoint in the original layout.

    Raises:
        ValueError: the file cannot be read, or is of something else.
    """
    weights = load_state_dict(file)
    try:
        with frame():
            scorer = Scorer(vision_config(weights), text_config(weights))
        scorer.load_state_dict(from_original(weights))
    except (RuntimeError, KeyError) as error:
        cause = f"it lacks {error}" if isinstance(error, KeyError) else last_line(error)
        raise ValueError(f"{file} holds {layout_of(weights)}, not an ImageReward: {cause}") from error
    return scorer.eval().requires_grad_(False)


def vision_config(weights: Mapping[str, Tensor]) -> BlipVisionConfig:
    """The image tower's configuration, which the checkpoint does not carry, from the shapes of its weights."""
    stem = "blip.visual_encoder"
    width, patch = weights[f"{stem}.cls_token"].shape[-1], weights[f"{stem}.patch_embed.proj.weight"].shape[-1]
    return BlipVisionConfig(
        hidden_size=width,
        intermediate_size=len(weights[f"{stem}.blocks.0.mlp.fc1.weight"]),
        num_hidden_layers=_layers(weights, rf"{stem}\.blocks\.(\d+)\."),
        num_attention_heads=width // HEAD_WIDTH,
        image_size=math.isqrt(weights[f"{stem}.pos_embed"].shape[1]) * patch,
        patch_size=patch,
        layer_norm_eps=1e-6,  # the original's; transformers' default is 1e-5
        hidden_act="gelu",
    )


def text_config(weights: Mapping[str, Tensor]) -> BlipTextConfig:
    """The same of the text encoder, which attends to the picture."""
    stem = "blip.text_encoder"
    words, width = weights[f"{stem}.embeddings.word_embeddings.weight"].shape
    return BlipTextConfig(
        vocab_size=words,
        hidden_size=width,
        encoder_hidden_size=weights[f"{stem}.encoder.layer.0.crossattention.self.key.weight"].shape[1],
        intermediate_size=len(weights[f"{stem}.encoder.layer.0.intermediate.dense.weight"]),
        num_hidden_layers=_layers(weights, rf"{stem}\.encoder\.layer\.(\d+)\."),
        num_attention_heads=width // HEAD_WIDTH,
        max_position_embeddings=len(weights[f"{stem}.embeddings.position_embeddings.weight"]),
        layer_norm_eps=1e-12,
        hidden_act="gelu",
        is_decoder=True,  # which in BLIP adds cross-attention to the image
    )


def _layers(weights: Mapping[str, Tensor], pattern: str) -> int:
    return 1 + max(int(match[1]) for match in map(re.compile(pattern).match, weights) if match)


def from_original(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The names of `Scorer` for the original's; BLIP's two projections and BERT's position indices are not needed."""
    mapped: dict[str, Tensor] = {}
    for key, value in weights.items():
        if key.startswith("blip.visual_encoder."):
            mapped["vision." + _in_vision(key.removeprefix("blip.visual_encoder."))] = value
        elif key.startswith("blip.text_encoder.") and not key.endswith("position_ids"):
            mapped["text." + key.removeprefix("blip.text_encoder.")] = value
        elif key.startswith("mlp.layers."):
            mapped["head." + key.removeprefix("mlp.")] = value
    return mapped


def _in_vision(key: str) -> str:
    for pattern, replacement in IN_VISION:
        renamed, count = re.subn(f"^{pattern}", replacement, key)
        if count:
            return renamed
    return key
