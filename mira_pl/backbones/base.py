"""What a frozen text-to-image model must offer, and classifier-free guidance."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from ..diffusion import Schedule
from ..types import Compute, Images, Latents


@dataclass(frozen=True, eq=False)
class Condition:
    """Encoded prompts.

    Attributes:
        positive: text embedding of every prompt, [b, tokens, width].
        negative: embedding of the empty prompt, of the same shape.
    """

    positive: Float[Tensor, "b tokens width"]
    negative: Float[Tensor, "b tokens width"]

    def repeat(self, times: int) -> "Condition":
        """Every prompt `times` times, in the order (all prompts), (all prompts), ..."""
        return Condition(self.positive.repeat(times, 1, 1), self.negative.repeat(times, 1, 1))


class Backbone(ABC):
    """A frozen denoiser with its schedule, text encoder and decoder. No parameter ever requires grad."""

    schedule: Schedule
    latent_shape: tuple[int, ...]
    spent: Compute = Compute()
    """Denoiser, decoder and denoiser backward calls so far, an image of the batch. Recomputed steps count again."""

    @property
    def noise_shape(self) -> tuple[int, ...]:
        """(T + 1, c, h, w): the noise of every step and x_T."""
        return (self.schedule.steps + 1, *self.latent_shape)

    @abstractmethod
    def encode(self, prompts: Sequence[str]) -> Condition:
        """Text embeddings of the prompts."""

    @abstractmethod
    def eps(self, x: Latents, step: int, condition: Condition) -> Latents:
        """Guided noise prediction at a step of the schedule, fp32."""

    @abstractmethod
    def denoise(self, x: Latents, timestep: Tensor, condition: Condition) -> Latents:
        """Conditional noise prediction without guidance at training timesteps [b], fp32."""

    @abstractmethod
    def decode(self, latents: Latents) -> Images:
        """Latents to raw images."""

    @abstractmethod
    def alpha(self, timestep: Tensor) -> Tensor:
        """abar at training timesteps [b], fp32, on the device of `timestep`."""

    @abstractmethod
    def to(self, device: torch.device | str) -> "Backbone":
        """Move every tensor, in place; returns itself."""

    def count(self, predicted: Latents, calls: int) -> Latents:
        """Counts denoiser calls, and their backward calls when they happen; returns what it is given."""
        self.spent += Compute(unet=calls)

        def count_backward(gradient: Tensor | None) -> None:
            if gradient is not None:
                self.spent += Compute(backward=calls)

        if predicted.requires_grad:
            predicted.register_hook(count_backward)
        return predicted
