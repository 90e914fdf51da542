"""Backbones whose score is known exactly: data from a Gaussian or from a mixture of Gaussians."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import torch
from diffusers import DDIMScheduler
from jaxtyping import Float
from torch import Tensor

from ..diffusion import Schedule
from ..types import Compute, Images, Latents
from .base import Backbone, Condition, Text


def sd_scheduler(prediction_type: Literal["epsilon", "v_prediction"] = "epsilon") -> DDIMScheduler:
    """The training schedule of Stable Diffusion: 1.x predicts the noise, 2.1 the velocity."""
    return DDIMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
        prediction_type=prediction_type,
    )


@dataclass(eq=False)
class MixtureBackbone(Backbone):
    """Data from sum_k w_k N(mu_k, s_k^2 I): eps(x_t) = -sqrt(1 - abar) * score, in closed form.

    One component is a Gaussian. The prompt is ignored, and images are the latents' first three channels.

    Attributes:
        means: component means, [k, c, h, w].
        stds: component standard deviations, [k].
        weights: component weights, [k], summing to 1.
        steps: T.
        eta: noise of the sampler.
    """

    means: Float[Tensor, "k c h w"]
    stds: Float[Tensor, " k"]
    weights: Float[Tensor, " k"]
    steps: int = 10
    eta: float = 1.0
    scheduler: DDIMScheduler = field(default_factory=sd_scheduler)

    def __post_init__(self) -> None:
        self.schedule = Schedule.from_scheduler(self.scheduler, self.steps, self.eta)
        self.latent_shape = tuple(self.means.shape[1:])

    def encode(self, prompts: Sequence[str]) -> Condition:
        nothing = Text(torch.zeros(len(prompts), 1, 1))
        return Condition(nothing, nothing)

    def eps(self, x: Latents, step: int, condition: Condition) -> Latents:
        return self.count(self._eps(x, self.schedule.alpha[step].expand(len(x))), 1)

    def denoise(self, x: Latents, timestep: Tensor, condition: Condition) -> Latents:
        return self.count(self._eps(x, self.alpha(timestep)), 1)

    def decode(self, latents: Latents) -> Images:
        self.spent += Compute(vae=1)
        return latents[:, :3]

    def alpha(self, timestep: Tensor) -> Tensor:
        return self.scheduler.alphas_cumprod.to(timestep.device)[timestep]

    def to(self, device: torch.device | str) -> "MixtureBackbone":
        self.means, self.stds, self.weights = (t.to(device) for t in (self.means, self.stds, self.weights))
        return self

    def _eps(self, x: Latents, alpha: Tensor) -> Latents:
        alpha = alpha.to(x).view(-1, 1, 1, 1, 1)
        variance = alpha * self.stds.to(x.dtype).view(1, -1, 1, 1, 1) ** 2 + 1 - alpha
        offset = x[:, None] - alpha.sqrt() * self.means.to(x.dtype)[None]
        size = offset[0, 0].numel()
        log_density = -(offset**2 / (2 * variance)).flatten(2).sum(2) - size / 2 * variance.flatten(1).log()
        share = torch.softmax(log_density + self.weights.to(x.dtype).log(), dim=1)[..., None, None, None]
        return (1 - alpha[:, 0]).sqrt() * (share * offset / variance).sum(dim=1)
