"""FLOPs of an iteration, counted on the meta device, where nothing is computed."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import torch
from torch.utils.flop_counter import FlopCounterMode

from mira_pl.trajectory import Chain

from .architectures import Size
from .models import MODELS, Weights, encode

PROMPTS = ["a white cat"]


@dataclass(frozen=True)
class Work:
    """FLOPs for one image. The backward pass of attention counts as two of its products, as in the algorithm; fused
    kernels compute one of them again, which is in no figure.

    Attributes:
        forward: one sampling step, with both branches of guidance where there are two.
        backward: its gradient, of the latents alone.
        decode: the VAE's decoder.
        picture: decoder and reward, forward and backward.
        repeated: of the decoder, computed again on the way back where its blocks are checkpointed.
    """

    forward: int
    backward: int
    decode: int
    picture: int
    repeated: int

    def needed(self, steps: int) -> int:
        """Of one iteration of T steps whatever computes it: nothing twice."""
        return steps * (self.forward + self.backward) + self.picture

    def done(self, steps: int, recomputed: int, previews: int = 0) -> int:
        """Of one iteration that computes so many steps again, as it does the decoder's blocks, and decodes previews."""
        return self.needed(steps) + recomputed * self.forward + self.repeated + previews * self.decode


@cache
def work(model: str, size: Size = "real") -> Work:
    """Counts the parts of a model of `MODELS`."""
    weights, chosen = Weights(size, torch.device("meta")), MODELS[model]
    backbone, reward = chosen.backbone(weights, chosen.steps, chosen.guidance), chosen.reward(weights)
    chain = Chain(backbone, encode(backbone, PROMPTS), [])
    latents = torch.empty(1, *backbone.latent_shape, device="meta", requires_grad=True)
    noise = torch.empty_like(latents)

    def step() -> torch.Tensor:
        return chain.step(latents, noise, 0)[0].sum()

    def picture() -> torch.Tensor:
        return reward.score(backbone.decode(latents), PROMPTS).sum()

    with torch.no_grad():
        forward, decode = counted(step), counted(lambda: backbone.decode(latents))
    step_and_back, checkpointed = (counted(lambda part=part: part().backward()) for part in (step, picture))
    backbone.vae.disable_gradient_checkpointing()
    plain = counted(lambda: picture().backward())
    return Work(forward, step_and_back - forward, decode, plain, checkpointed - plain)


def counted(run: Callable[[], object]) -> int:
    """FLOPs of matrix products, convolutions and attention in a call."""
    with FlopCounterMode(display=False) as counter:
        run()
    return counter.get_total_flops()
