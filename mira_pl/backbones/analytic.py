"""Backbones whose score is known exactly: data from a Gaussian or from a mixture of Gaussians."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import torch
from diffusers import DDIMScheduler, FlowMatchEulerDiscreteScheduler
from jaxtyping import Float
from torch import Tensor

from ..diffusion import Prediction, Schedule, from_noise
from ..flow import TRAINING_STEPS, flow_schedule, from_flow, signal_share, to_flow
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
class Mixture(Backbone):
    """Data from sum_k w_k N(mu_k, s_k^2 I). The prompt is ignored, and images are the latents' first three channels.

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

    def __post_init__(self) -> None:
        self.latent_shape = tuple(self.means.shape[1:])

    def encode(self, prompts: Sequence[str]) -> Condition:
        nothing = Text(torch.zeros(len(prompts), 1, 1))
        return Condition(nothing, nothing)

    def decode(self, latents: Latents) -> Images:
        self.spent += Compute(vae=1)
        return latents[:, :3]

    def to(self, device: torch.device | str) -> "Mixture":
        self.means, self.stds, self.weights = (t.to(device) for t in (self.means, self.stds, self.weights))
        return self

    def expected(self, x: Latents, signal: Tensor, noise: Tensor) -> Prediction:
        """E[eps | x] and E[x_0 | x] for x = signal x_0 + noise eps, in closed form; levels are one number a row."""
        signal, noise = (level.to(x).view(-1, 1, 1, 1, 1) for level in (signal, noise))
        means, spread = self.means.to(x.dtype), self.stds.to(x.dtype).view(1, -1, 1, 1, 1) ** 2
        variance = signal**2 * spread + noise**2
        offset = x[:, None] - signal * means
        log_density = -(offset**2 / (2 * variance)).flatten(2).sum(2) - means[0].numel() / 2 * variance.flatten(1).log()
        share = torch.softmax(log_density + self.weights.to(x.dtype).log(), dim=1)[..., None, None, None]
        eps = noise[:, 0] * (share * offset / variance).sum(dim=1)
        return Prediction(eps, (share * (means + signal * spread * offset / variance)).sum(dim=1))


@dataclass(eq=False)
class MixtureBackbone(Mixture):
    """A diffusion of the mixture: eps(x_t) = -sqrt(1 - abar) * score.

    Attributes:
        scheduler: gives the noise levels.
    """

    scheduler: DDIMScheduler = field(default_factory=sd_scheduler)

    def __post_init__(self) -> None:
        super().__post_init__()
        self.schedule = Schedule.from_scheduler(self.scheduler, self.steps, self.eta)

    def predict(self, x: Latents, step: int, condition: Condition) -> Prediction:
        alpha = self.schedule.alpha[step]
        return from_noise(x, self.count(self._eps(x, alpha.expand(len(x))), 1), alpha)

    def denoise(self, x: Latents, timestep: Tensor, condition: Condition) -> Latents:
        return self.count(self._eps(x, self.alpha(timestep)), 1)

    def alpha(self, timestep: Tensor) -> Tensor:
        return self.scheduler.alphas_cumprod.to(timestep.device)[timestep]

    def _eps(self, x: Latents, alpha: Tensor) -> Latents:
        return self.expected(x, alpha.sqrt(), (1 - alpha).sqrt()).eps


@dataclass(eq=False)
class FlowMixture(Mixture):
    """A rectified flow of the mixture: v(x_s) = E[eps - x_0 | x_s].

    Attributes:
        shift: of the times towards the noise, 3 as in Stable Diffusion 3.
    """

    shift: float = 3.0

    def __post_init__(self) -> None:
        super().__post_init__()
        self.schedule = flow_schedule(FlowMatchEulerDiscreteScheduler(shift=self.shift), self.steps, self.eta, tokens=1)

    def predict(self, x: Latents, step: int, condition: Condition) -> Prediction:
        timestep = torch.full((len(x),), self.schedule.timesteps[step], device=x.device)
        return self._predict(x, timestep, self.schedule.alpha[step])

    def denoise(self, x: Latents, timestep: Tensor, condition: Condition) -> Latents:
        return self._predict(x, timestep, self.alpha(timestep).view(-1, 1, 1, 1)).eps

    def alpha(self, timestep: Tensor) -> Tensor:
        return signal_share(timestep.double() / TRAINING_STEPS).float()

    def velocity(self, x: Latents, s: Float[Tensor, " b"]) -> Latents:
        """Of latents on the flow's own scale, at times s."""
        parts = self.expected(x, 1 - s, s)
        return parts.eps - parts.x0

    def _predict(self, x: Latents, timestep: Tensor, alpha: Tensor) -> Prediction:
        v = self.velocity(to_flow(x, alpha), timestep / TRAINING_STEPS)
        return from_flow(x, self.count(v, 1), alpha)
