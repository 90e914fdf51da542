"""Rewards on CLIP embeddings: the match of image and prompt, and the LAION aesthetic head.

Every model has the layout of its class in transformers, so that the emoji world's and OpenAI's load the same way.
"""

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import nn
from typing_extensions import Self

from ..hub import Need, layouts, ready
from ..hub.hollow import frame
from ..hub.layouts import EMOJI
from ..hub.loading import layout_of, load_state_dict
from ..types import Images, PerJob
from .base import Reward
from .towers import ClipTowers, Embedding, clip_needs, unmixed

HEAD_FILE = "aesthetic-model.pth"  # of trl-lib/ddpo-aesthetic-predictor, LAION's weights


class CLIPScore(Reward):
    """100 times the cosine of image and prompt. torchmetrics clamps it at 0; here it stays signed, for its gradient.

    Args:
        model: "emoji" (packaged), a hub id such as openai/clip-vit-large-patch14, or a local folder.
    """

    differentiable: ClassVar[bool] = True

    def __init__(self, model: str = EMOJI) -> None:
        self.clip = ClipTowers.load(model)

    @staticmethod
    def needs(model: str, **_: Any) -> dict[str, Need]:
        return clip_needs(model, model)

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
        """A rating, about 1 to 10: bfloat16 would round it to 1/32, so that no autocast reaches it."""
        with unmixed(embedding.device):
            return self.layers(embedding).squeeze(-1)


class Aesthetic(Reward):
    """The rating of a picture by itself, whatever the prompt: about 1 to 10, unbounded.

    Args:
        model: "emoji" (packaged), a hub id such as openai/clip-vit-large-patch14, or a local folder.
        head: "emoji" (packaged), a hub id, or a local file (.safetensors, .pth or .pt) in LAION's layout.
    """

    differentiable: ClassVar[bool] = True

    def __init__(self, model: str = EMOJI, head: str = EMOJI) -> None:
        self.clip = ClipTowers.load(model)
        self.head = load_head(head, self.clip.width)

    @staticmethod
    def needs(model: str, head: str, **_: Any) -> dict[str, Need]:
        return clip_needs(model, model) | {"head": head_need(head)}

    def score(self, images: Images, prompts: Sequence[str]) -> PerJob:
        """The head on the embedding of length 1."""
        return self.head(self.clip.embed_images(images))

    def to(self, device: torch.device) -> Self:
        """Moves CLIP and head in place."""
        self.clip.to(device)
        self.head.to(device)
        return self


def head_need(head: str) -> Need:
    """The file of the aesthetic head; see `Aesthetic` for names."""
    return layouts.checkpoint(layouts.source_of(head, "aesthetic"), HEAD_FILE)


def load_head(head: str, width: int) -> AestheticHead:
    """The frozen aesthetic head in file `head`, for embeddings of `width`."""
    (file,) = ready(head_need(head)).files.values()
    with frame():
        module = AestheticHead(width)
    weights = load_state_dict(file)
    wanted = {name: value.shape for name, value in module.state_dict().items()}
    if {name: value.shape for name, value in weights.items()} != wanted:
        raise ValueError(
            f"{file} holds {layout_of(weights)}, not LAION's five linear layers for embeddings of width {width}, "
            "the CLIP's projection: take the head of this CLIP"
        )
    module.load_state_dict(weights)
    return module.eval().requires_grad_(False)
