"""What a frozen text-to-image model must offer, and classifier-free guidance."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from ..diffusion import Prediction, Schedule
from ..hub import Need
from ..types import Compute, Images, Latents
from .attention import Attention


@dataclass(frozen=True, eq=False)
class Text:
    """Encoded prompts as a denoiser reads them.

    Attributes:
        tokens: embeddings, [b, tokens, width].
        pooled: one embedding a prompt, for denoisers that take it (SDXL, SD3, FLUX), [b, wide].
        mask: which tokens are words, for denoisers whose padding must not be seen (PixArt, Sana), [b, tokens].
    """

    tokens: Float[Tensor, "b tokens width"]
    pooled: Float[Tensor, "b wide"] | None = None
    mask: Bool[Tensor, "b tokens"] | None = None

    def map(self, change: Callable[[Tensor], Tensor]) -> "Text":
        """The same change of every tensor."""
        parts = (self.tokens, self.pooled, self.mask)
        return Text(*(None if part is None else change(part) for part in parts))  # type: ignore[arg-type]

    def repeat(self, times: int) -> "Text":
        """Every prompt `times` times, in the order (all prompts), (all prompts), ..."""
        return self.map(lambda part: part.repeat(times, *[1] * (part.dim() - 1)))

    def rows(self, index: Tensor) -> "Text":
        """The prompts of the given rows."""
        return self.map(lambda part: part[index])

    def then(self, other: "Text") -> "Text":
        """These prompts, then the other ones, which have the same parts."""
        theirs = iter(part for part in (other.tokens, other.pooled, other.mask) if part is not None)
        return self.map(lambda part: torch.cat([part, next(theirs)]))


@dataclass(frozen=True, eq=False)
class Condition:
    """Both sides of guidance: every prompt, and as often the empty one."""

    positive: Text
    negative: Text

    def repeat(self, times: int) -> "Condition":
        """Every prompt `times` times, in the order (all prompts), (all prompts), ..."""
        return Condition(self.positive.repeat(times), self.negative.repeat(times))

    def rows(self, index: Tensor) -> "Condition":
        """The prompts of the given rows."""
        return Condition(self.positive.rows(index), self.negative.rows(index))


class Backbone(ABC):
    """A frozen denoiser with its schedule, text encoder and decoder. No parameter ever requires grad."""

    schedule: Schedule
    latent_shape: tuple[int, ...]
    shows_attention: bool = False
    """Whether there are `eps_and_attention` and `places`."""
    guidance: float = 1.0
    """Scale of classifier-free guidance; 1 is none."""
    spent: Compute = Compute()
    """Denoiser, decoder and denoiser backward calls so far, an image of the batch."""
    repeating: bool = False
    """Whether denoiser calls are a second computation of earlier ones."""

    @staticmethod
    def needs(**init_args: Any) -> dict[str, Need]:
        """What the class loads when it is built with these arguments, by part: nothing, unless it says so."""
        return {}

    @property
    def noise_shape(self) -> tuple[int, ...]:
        """(T + 1, c, h, w): the noise of every step and x_T."""
        return (self.schedule.steps + 1, *self.latent_shape)

    @abstractmethod
    def encode(self, prompts: Sequence[str]) -> Condition:
        """Text embeddings of the prompts."""

    @abstractmethod
    def predict(self, x: Latents, step: int, condition: Condition) -> Prediction:
        """Guided prediction of noise and clean latents at a step of the schedule, fp32."""

    def eps(self, x: Latents, step: int, condition: Condition) -> Latents:
        """Guided noise prediction at a step of the schedule, fp32."""
        return self.predict(x, step, condition).eps

    def guided(self, x: Latents, step: int, condition: Condition) -> tuple[Prediction, Latents]:
        """`predict`, and what the prompt adds to the noise predicted for the empty one; 0 where nothing is guided."""
        prediction = self.predict(x, step, condition)
        return prediction, torch.zeros_like(prediction.eps)

    @abstractmethod
    def denoise(self, x: Latents, timestep: Tensor, condition: Condition) -> Latents:
        """Conditional noise prediction without guidance at training timesteps [b], fp32."""

    def eps_and_attention(
        self, x: Latents, step: int, condition: Condition, side: int | None = None
    ) -> tuple[Latents, Attention]:
        """Conditional noise prediction without guidance, and the attention maps of `side` x `side` that led to it.

        Args:
            x: latents.
            step: of the schedule.
            condition: encoded prompts.
            side: None is the model's choice.

        Raises:
            ValueError: the model gives no maps, or none of this side.
        """
        raise ValueError(
            f"{type(self).__name__} gives no attention maps: take StableDiffusion, neither compiled nor annealed"
        )

    def places(self, prompt: str, word: str) -> list[int]:
        """Positions of a word's last token among the tokens of the prompt; none where it does not occur."""
        raise ValueError(f"{type(self).__name__} gives no attention maps: take StableDiffusion")

    @abstractmethod
    def decode(self, latents: Latents) -> Images:
        """Latents to raw images."""

    @abstractmethod
    def alpha(self, timestep: Tensor) -> Tensor:
        """abar at training timesteps [b], fp32, on the device of `timestep`."""

    @abstractmethod
    def to(self, device: torch.device | str) -> "Backbone":
        """Move every tensor, in place; returns itself."""

    def count(self, predicted: Tensor, calls: int) -> Tensor:
        """Counts denoiser calls, and their backward calls when they happen; returns what it is given."""
        self.spent += Compute(repeated=calls) if self.repeating else Compute(unet=calls)

        def count_backward(gradient: Tensor | None) -> None:
            if gradient is not None:
                self.spent += Compute(backward=calls)

        if predicted.requires_grad:
            predicted.register_hook(count_backward)
        return predicted


@dataclass(frozen=True, eq=False)
class Again(AbstractContextManager):
    """Denoiser calls of a backbone count as repeated ones inside; may be entered many times."""

    backbone: Backbone

    def __enter__(self) -> None:
        self.backbone.repeating = True

    def __exit__(self, *_: object) -> None:
        self.backbone.repeating = False
