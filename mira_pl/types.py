"""The tensors and values that every part of the package speaks of."""

import operator
from dataclasses import astuple, dataclass

from jaxtyping import Float
from torch import Tensor

Images = Float[Tensor, "b 3 height width"]
"""Decoded RGB, [-1, 1] by convention but never clamped: brightness rewards read the raw range."""

Latents = Float[Tensor, "b c h w"]
"""What the backbone denoises, fp32."""

Noise = Float[Tensor, "b n c h w"]
"""n = T + 1, always fp32. Index T is x_T; index t < T is injected t steps before the last one (DNO's order)."""

PerJob = Float[Tensor, " b"]
"""One number a job: never averaged over the batch."""


@dataclass(frozen=True)
class Job:
    """One prompt-seed: the unit of work, of sharding and of a record. `key` is unique and safe as a file name."""

    prompt: str
    seed: int
    key: str


@dataclass(frozen=True)
class Compute:
    """What a method spent, in calls for one image each: four counts by which methods are compared, and one apart.

    Attributes:
        unet: denoiser calls.
        vae: decoded images.
        reward: scored images.
        backward: denoiser calls that a gradient went back through.
        repeated: denoiser calls that the engine makes a second time on the way back to save memory. No method's own:
            how many there are is a matter of the machine.
    """

    unet: int = 0
    vae: int = 0
    reward: int = 0
    backward: int = 0
    repeated: int = 0

    def __add__(self, other: "Compute") -> "Compute":
        return Compute(*map(operator.add, astuple(self), astuple(other)))

    def __sub__(self, other: "Compute") -> "Compute":
        return Compute(*map(operator.sub, astuple(self), astuple(other)))

    def times(self, count: int) -> "Compute":
        """As much, so many times."""
        return Compute(*(count * calls for calls in astuple(self)))
