"""A frozen CLIP as two functions, images and texts to embeddings, shared by every reward that names the same model."""

import weakref
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Literal, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.amp.autocast_mode import is_autocast_available
from transformers import CLIPModel, CLIPTokenizer
from transformers.modeling_outputs import BaseModelOutputWithPooling
from typing_extensions import Self

from ..hub import Need, layouts
from ..hub.hollow import is_hollow
from ..hub.loading import load_part, load_weights
from ..text import tokenize
from ..types import Images
from .preprocess import clip_pixels
from .sharing import once

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
            OSError: the files are neither there nor can they be fetched.
            ValueError: they cannot be read as a CLIP.
        """

        def load() -> ClipTowers:
            needs = clip_needs(model, tokenizer or model)
            loaded = load_weights(CLIPModel, needs["clip"], torch.float32)
            clip: CLIPModel = loaded.eval().requires_grad_(False)
            return ClipTowers(clip, load_tokenizer(needs["tokenizer"], clip))

        return in_use(model, tokenizer, load)

    def embed_images(self, images: Images) -> Embedding:
        """Gradients flow to the images. The terms of a sum share what is computed: see `sharing`."""
        return once(self, images, self._embed_images)

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

    def _embed_images(self, images: Images) -> Embedding:
        pixels = clip_pixels(images, self.side, self.square)
        return nn.functional.normalize(pooled(self.model.get_image_features(pixel_values=pixels)).float(), dim=-1)

    @torch.inference_mode(False)  # what is cached in a validation loop must still serve a training step
    @torch.no_grad()
    def _embed_texts(self, prompts: tuple[str, ...]) -> Embedding:
        positions = self.model.text_model.embeddings.position_embedding.num_embeddings
        longest = min(self.tokenizer.model_max_length, positions)
        tokens = tokenize(self.tokenizer, prompts, longest, "the CLIP of a reward").input_ids.to(self.model.device)
        with unmixed(tokens.device):
            features = pooled(self.model.get_text_features(input_ids=tokens))
        return nn.functional.normalize(features, dim=-1)


def pooled(output: object) -> Tensor:
    """The projected embedding: `pooler_output` in transformers 5, the output itself before."""
    embedding = output.pooler_output if isinstance(output, BaseModelOutputWithPooling) else output
    assert isinstance(embedding, Tensor)
    return embedding


IN_USE: weakref.WeakValueDictionary[tuple[str, str | None], ClipTowers] = weakref.WeakValueDictionary()


def in_use(model: str, tokenizer: str | None, load: Callable[[], ClipTowers]) -> ClipTowers:
    """The towers that somebody holds under these names, or those that `load` gives, for the next who asks."""
    if is_hollow():  # those are for nobody else
        return load()
    towers = IN_USE.get((model, tokenizer))
    if towers is None:
        towers = IN_USE[model, tokenizer] = load()
    return towers


def unmixed(device: torch.device) -> AbstractContextManager:
    """No autocast within: what costs little is computed in float32. The meta device has none to turn off."""
    return torch.autocast(device.type, enabled=False) if is_autocast_available(device.type) else nullcontext()


def clip_needs(model: str, tokenizer: str) -> dict[str, Need]:
    """The files of a CLIPModel and its tokenizer, each "emoji", a hub id or a local folder."""
    clip = layouts.transformers_weights(layouts.source_of(model, "clip"), "", "CLIPModel")
    return {"clip": clip, "tokenizer": tokenizer_need(tokenizer)}


def tokenizer_need(name: str) -> Need:
    """The files of a CLIPTokenizer."""
    return layouts.tokenizer(layouts.source_of(name, "clip"), "", "vocab.json")


def tokenizer_of(model: str) -> str:
    """The tokenizer of a CLIP that was tuned from the packaged one, or else from laion's ViT-H/14."""
    return layouts.EMOJI if model == layouts.EMOJI else "laion/CLIP-ViT-H-14-laion2B-s32B-b79K"


def load_tokenizer(need: Need, clip: CLIPModel) -> CLIPTokenizer:
    """The tokenizer, which must have the words of `clip`."""
    tokenizer: Any = load_part(CLIPTokenizer.from_pretrained, need)
    vocabulary = clip.text_model.embeddings.token_embedding.num_embeddings
    if len(tokenizer) != vocabulary:
        words = f"it has {len(tokenizer)} words, the text tower {vocabulary}"
        raise ValueError(f"the tokenizer of {need.source} is not this CLIP's ({words}): name the CLIP's own")
    return tokenizer
