"""PickScore: a CLIP ViT-H/14 tuned on the choices of Pick-a-Pic's users (Kirstain et al. 2023)."""

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from typing_extensions import Self

from ..hub import Need, layouts
from ..types import Images, PerJob
from .base import Reward
from .towers import ClipTowers, clip_needs, tokenizer_of

REPOSITORY = "yuvalkirstain/PickScore_v1"


class PickScore(Reward):
    """The cosine of image and prompt times the model's own scale (about 100): typically 20 to 22, not normalised.

    Args:
        model: `emoji` (packaged), a hub id, or a local folder with a CLIPModel.
        tokenizer: `emoji`, hub id or local folder; None is that of ViT-H/14, or of the packaged model.
    """

    differentiable: ClassVar[bool] = True

    def __init__(self, model: str = REPOSITORY, tokenizer: str | None = None) -> None:
        self.clip = ClipTowers.load(layouts.source_of(model, "pickscore"), tokenizer or tokenizer_of(model))

    @staticmethod
    def needs(model: str, tokenizer: str | None, **_: Any) -> dict[str, Need]:
        return clip_needs(layouts.source_of(model, "pickscore"), tokenizer or tokenizer_of(model))

    def score(self, images: Images, prompts: Sequence[str]) -> PerJob:
        """Unbounded in the scale; prompts longer than the text tower are truncated."""
        cosine = (self.clip.embed_images(images) * self.clip.embed_texts(prompts)).sum(dim=-1)
        return self.clip.model.logit_scale.exp() * cosine

    def to(self, device: torch.device) -> Self:
        """Moves the CLIP in place."""
        self.clip.to(device)
        return self
