"""Rewards on CLIP embeddings: the match of image and prompt, and the LAION aesthetic head.

Every model has the layout of its class in transformers, so that the emoji world's and OpenAI's load the same way.
"""

import pickle
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar, cast

import torch
from jaxtyping import Float
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers import CLIPModel, CLIPTokenizer
from transformers.modeling_outputs import BaseModelOutputWithPooling
from typing_extensions import Self

from ..assets import packaged
from ..types import Images, PerJob
from .base import Reward
from .preprocess import clip_pixels

EMOJI = "emoji"
"""Names the packaged weights of the emoji world, where a hub id or a local path may stand."""

MOST_CACHED = 64  # prompt batches whose text embeddings are kept

Embedding = Float[Tensor, "b width"]


class ClipTowers:
    """A frozen CLIP as two functions: images and texts to embeddings of length 1, in fp32.

    Args:
        model: "emoji", a hub id, or a local folder with a CLIPModel and its CLIPTokenizer.

    Raises:
        FileNotFoundError: there is no such model.
        ValueError: the files cannot be read as a CLIP.
    """

    def __init__(self, model: str) -> None:
        self.model, self.tokenizer = load_clip(model)
        self.side = cast(int, self.model.vision_model.embeddings.image_size)
        self.width = self.model.visual_projection.out_features
        self.texts: dict[tuple[str, ...], Embedding] = {}

    def embed_images(self, images: Images) -> Embedding:
        """Gradients flow to the images."""
        pixels = clip_pixels(images, self.side)
        return nn.functional.normalize(pooled(self.model.get_image_features(pixel_values=pixels)).float(), dim=-1)

    def embed_texts(self, prompts: Sequence[str]) -> Embedding:
        """Computed once for a batch of prompts: an optimisation asks for the same ones at every tick."""
        key = tuple(prompts)
        if key not in self.texts:
            if len(self.texts) >= MOST_CACHED:
                self.texts.clear()
            self.texts[key] = self._embed_texts(key)
        return self.texts[key]

    def to(self, device: torch.device) -> Self:
        """Moves the model in place; texts are embedded again there."""
        nn.Module.to(self.model, device)
        self.texts.clear()
        return self

    @torch.inference_mode(False)  # what is cached in a validation loop must still serve a training step
    @torch.no_grad()
    def _embed_texts(self, prompts: tuple[str, ...]) -> Embedding:
        positions = self.model.text_model.embeddings.position_embedding.num_embeddings
        longest = min(self.tokenizer.model_max_length, positions)
        tokens = self.tokenizer(
            list(prompts), padding="max_length", truncation=True, max_length=longest, return_tensors="pt"
        ).input_ids.to(self.model.device)
        with torch.autocast(tokens.device.type, enabled=False):
            features = pooled(self.model.get_text_features(input_ids=tokens))
        return nn.functional.normalize(features, dim=-1)


class CLIPScore(Reward):
    """100 times the cosine of image and prompt. torchmetrics clamps it at 0; here it stays signed, for its gradient.

    Args:
        model: "emoji" (packaged), a hub id such as openai/clip-vit-large-patch14, or a local folder.
    """

    differentiable: ClassVar[bool] = True

    def __init__(self, model: str = EMOJI) -> None:
        self.clip = ClipTowers(model)

    def score(self, images: Images, prompts: Sequence[str]) -> PerJob:
        """In [-100, 100]; prompts longer than the text tower are truncated."""
        return 100 * (self.clip.embed_images(images) * self.clip.embed_texts(prompts)).sum(dim=-1)

    def to(self, device: torch.device) -> Self:
        """Moves the CLIP in place."""
        self.clip.to(device)
        return self


class AestheticHead(nn.Module):
    """LAION's predictor: five linear layers without activations, so one affine map of the embedding.

    Args:
        width: of the embedding; 768 for the public weights.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(width, 1024),
            nn.Dropout(0.2),
            nn.Linear(1024, 128),
            nn.Dropout(0.2),
            nn.Linear(128, 64),
            nn.Dropout(0.1),
            nn.Linear(64, 16),
            nn.Linear(16, 1),
        )

    def forward(self, embedding: Embedding) -> PerJob:
        """A rating, about 1 to 10."""
        return self.layers(embedding).squeeze(-1)


class Aesthetic(Reward):
    """The rating of a picture by itself, whatever the prompt: about 1 to 10, unbounded.

    Args:
        model: "emoji" (packaged), a hub id such as openai/clip-vit-large-patch14, or a local folder.
        head: "emoji" (packaged), or a local file (.safetensors, .pth or .pt) in LAION's layout.
    """

    differentiable: ClassVar[bool] = True

    def __init__(self, model: str = EMOJI, head: str = EMOJI) -> None:
        self.clip = ClipTowers(model)
        self.head = load_head(head, self.clip.width)

    def score(self, images: Images, prompts: Sequence[str]) -> PerJob:
        """The head on the embedding of length 1."""
        return self.head(self.clip.embed_images(images))

    def to(self, device: torch.device) -> Self:
        """Moves CLIP and head in place."""
        self.clip.to(device)
        self.head.to(device)
        return self


def pooled(output: object) -> Tensor:
    """The projected embedding: `pooler_output` in transformers 5, the output itself before."""
    embedding = output.pooler_output if isinstance(output, BaseModelOutputWithPooling) else output
    assert isinstance(embedding, Tensor)
    return embedding


def load_clip(model: str) -> tuple[CLIPModel, CLIPTokenizer]:
    """The frozen fp32 CLIP named `model` and its tokenizer; see `ClipTowers` for names and errors."""
    source = str(packaged("clip")) if model == EMOJI else model
    if model == EMOJI and not (packaged("clip") / "config.json").is_file():
        raise FileNotFoundError(f"The packaged CLIP {source} is missing: reinstall mira_pl.")
    advice = "give a hub id or a folder with a CLIPModel (config.json, model.safetensors) and its tokenizer."
    try:
        loaded = CLIPModel.from_pretrained(source, dtype=torch.float32, output_loading_info=True)
        clip, report = cast(tuple[CLIPModel, dict[str, set[str]]], loaded)
        tokenizer = CLIPTokenizer.from_pretrained(source)
    except OSError as error:
        raise FileNotFoundError(f"No CLIP was found at {source!r} ({first_line(error)}): {advice}") from error
    except (ValueError, RuntimeError, SafetensorError) as error:
        raise ValueError(f"The CLIP at {source!r} cannot be read ({first_line(error)}): {advice}") from error
    if report["missing_keys"]:
        raise ValueError(f"The CLIP at {source!r} lacks {len(report['missing_keys'])} weights: {advice}")
    vocabulary = clip.text_model.embeddings.token_embedding.num_embeddings
    if len(tokenizer) != vocabulary:  # where there is none, transformers makes an empty tokenizer
        words = f"{len(tokenizer)} words for {vocabulary} of the text tower"
        raise ValueError(f"The tokenizer at {source!r} is missing or not this CLIP's ({words}): {advice}")
    return clip.eval().requires_grad_(False), tokenizer


def load_head(head: str, width: int) -> AestheticHead:
    """The frozen aesthetic head in file `head`, for embeddings of `width`; see `Aesthetic` for names."""
    file = packaged("aesthetic/model.safetensors") if head == EMOJI else Path(head)
    if not file.is_file():
        advice = "reinstall mira_pl" if head == EMOJI else "give a .safetensors, .pth or .pt file in LAION's layout"
        raise FileNotFoundError(f"The aesthetic head {file} is missing: {advice}.")
    module = AestheticHead(width)
    try:
        if file.suffix in (".pth", ".pt"):
            weights = torch.load(file, weights_only=True, map_location="cpu")
        else:
            weights = load_file(file)
        module.load_state_dict(weights)
    except (OSError, EOFError, TypeError, RuntimeError, SafetensorError, pickle.UnpicklingError) as error:
        advice = f"it must be LAION's five linear layers for embeddings of width {width}, the CLIP's projection."
        raise ValueError(f"The aesthetic head {file} cannot be read ({first_line(error)}): {advice}") from error
    return module.eval().requires_grad_(False)


def first_line(error: Exception) -> str:
    """What libraries say at length, in one line."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__).rstrip(".: ")
