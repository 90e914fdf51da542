"""A frozen CLIP as two functions, images and texts to embeddings, shared by every reward that names the same model."""

import weakref
from collections.abc import Sequence
from typing import Literal, cast

import torch
from jaxtyping import Float
from safetensors import SafetensorError
from torch import Tensor, nn
from transformers import CLIPModel, CLIPTokenizer
from transformers.modeling_outputs import BaseModelOutputWithPooling
from typing_extensions import Self

from ..assets import packaged
from ..types import Images
from .files import first_line
from .preprocess import clip_pixels

EMOJI = "emoji"
"""Names the packaged weights of the emoji world, where a hub id or a local path may stand."""

MOST_CACHED = 64  # prompt batches whose text embeddings are kept

Embedding = Float[Tensor, "b width"]


class ClipTowers:
    """Embeddings of length 1, in fp32.

    Args:
        model: a frozen CLIP.
        tokenizer: its tokenizer.
        square: `crop` takes the central square of a picture, `pad` the whole of it between black bars.
    """

    def __init__(self, model: CLIPModel, tokenizer: CLIPTokenizer, square: Literal["crop", "pad"] = "crop") -> None:
        self.model, self.tokenizer = model, tokenizer
        self.square: Literal["crop", "pad"] = square
        self.side = cast(int, self.model.vision_model.embeddings.image_size)
        self.width = self.model.visual_projection.out_features
        self.texts: dict[tuple[str, ...], Embedding] = {}

    @staticmethod
    def load(model: str, tokenizer: str | None = None) -> "ClipTowers":
        """The towers of a name, the same ones for all who hold them at once.

        Args:
            model: "emoji", a hub id, or a local folder with a CLIPModel.
            tokenizer: hub id or local folder of the CLIPTokenizer; None is `model`.

        Raises:
            FileNotFoundError: there is no such model.
            ValueError: the files cannot be read as a CLIP.
        """
        towers = IN_USE.get((model, tokenizer))
        if towers is None:
            clip = load_clip(model)
            towers = ClipTowers(clip, load_tokenizer(tokenizer or model, clip))
            IN_USE[model, tokenizer] = towers
        return towers

    def embed_images(self, images: Images) -> Embedding:
        """Gradients flow to the images."""
        pixels = clip_pixels(images, self.side, self.square)
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


def pooled(output: object) -> Tensor:
    """The projected embedding: `pooler_output` in transformers 5, the output itself before."""
    embedding = output.pooler_output if isinstance(output, BaseModelOutputWithPooling) else output
    assert isinstance(embedding, Tensor)
    return embedding


IN_USE: weakref.WeakValueDictionary[tuple[str, str | None], ClipTowers] = weakref.WeakValueDictionary()
ADVICE = "give a hub id or a folder with a CLIPModel (config.json, model.safetensors) and its tokenizer."


def load_clip(model: str) -> CLIPModel:
    """The frozen fp32 CLIP named `model`; see `ClipTowers.load` for names and errors."""
    source = place_of(model)
    try:
        loaded = CLIPModel.from_pretrained(source, dtype=torch.float32, output_loading_info=True, use_safetensors=True)
        clip, report = cast(tuple[CLIPModel, dict[str, set[str]]], loaded)
    except OSError as error:
        raise FileNotFoundError(f"No CLIP was found at {source!r} ({first_line(error)}): {ADVICE}") from error
    except (ValueError, RuntimeError, SafetensorError) as error:
        raise ValueError(f"The CLIP at {source!r} cannot be read ({first_line(error)}): {ADVICE}") from error
    if report["missing_keys"]:
        raise ValueError(f"The CLIP at {source!r} lacks {len(report['missing_keys'])} weights: {ADVICE}")
    return clip.eval().requires_grad_(False)


def load_tokenizer(name: str, clip: CLIPModel) -> CLIPTokenizer:
    """The tokenizer called `name`, which must have the words of `clip`."""
    source = place_of(name)
    try:
        tokenizer = CLIPTokenizer.from_pretrained(source)
    except (OSError, ValueError) as error:
        raise FileNotFoundError(f"No tokenizer was found at {source!r} ({first_line(error)}): {ADVICE}") from error
    vocabulary = clip.text_model.embeddings.token_embedding.num_embeddings
    if len(tokenizer) != vocabulary:  # where there is none, transformers makes an empty tokenizer
        words = f"{len(tokenizer)} words for {vocabulary} of the text tower"
        raise ValueError(f"The tokenizer at {source!r} is missing or not this CLIP's ({words}): {ADVICE}")
    return tokenizer


def place_of(model: str) -> str:
    """The folder of the packaged CLIP, or the name itself."""
    if model != EMOJI:
        return model
    if not (packaged("clip") / "config.json").is_file():
        raise FileNotFoundError(f"The packaged CLIP {packaged('clip')} is missing: reinstall mira_pl.")
    return str(packaged("clip"))
