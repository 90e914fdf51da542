"""Attention maps of a diffusers U-Net, read beside its prediction and without changing it."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Attention:
    """What the pixels of one resolution look at, averaged over heads and layers; every row sums to 1.

    Attributes:
        cross: at the tokens of the prompt, [b, pixels, tokens].
        own: at one another, [b, pixels, pixels].
    """

    cross: Float[Tensor, "b pixels tokens"]
    own: Float[Tensor, "b pixels pixels"]


@dataclass(frozen=True, eq=False)
class Readings:
    """One map a layer, averaged over heads."""

    cross: list[Tensor] = field(default_factory=list)
    own: list[Tensor] = field(default_factory=list)

    def mean(self) -> Attention:
        """The mean over layers, fp32."""
        return Attention(*(torch.stack(maps).float().mean(dim=0) for maps in (self.cross, self.own)))


@dataclass(frozen=True, eq=False)
class Reader:
    """A processor that leaves the work to another one, so that the layer's output is what it was, bit for bit."""

    inner: Any
    pixels: int
    readings: Readings

    def __call__(
        self,
        attn: Any,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        temb: Tensor | None = None,
    ) -> Tensor:
        if hidden_states.shape[1] == self.pixels:
            seen = hidden_states if encoder_hidden_states is None else encoder_hidden_states
            query, key = (attn.head_to_batch_dim(part) for part in (attn.to_q(hidden_states), attn.to_k(seen)))
            maps = attn.get_attention_scores(query, key, attention_mask).unflatten(0, (-1, attn.heads)).mean(dim=1)
            (self.readings.own if encoder_hidden_states is None else self.readings.cross).append(maps)
        return self.inner(attn, hidden_states, encoder_hidden_states, attention_mask, temb)


@contextmanager
def reading(unet: Any, pixels: int) -> Iterator[Readings]:
    """Keep the maps of every attention layer of so many pixels while the body runs the U-Net."""
    readings, before = Readings(), unet.attn_processors
    unet.set_attn_processor({name: Reader(inner, pixels, readings) for name, inner in before.items()})
    try:
        yield readings
    finally:
        unet.set_attn_processor(before)


def sides(config: Any) -> list[int]:
    """The sides at which a U-Net of this configuration has attention to the prompt, in pixels of its latents."""
    levels = [level for level, block in enumerate(config.down_block_types) if block.startswith("CrossAttn")]
    if config.mid_block_type == "UNetMidBlock2DCrossAttn":
        levels.append(len(config.down_block_types) - 1)
    return sorted({config.sample_size // 2**level for level in levels}, reverse=True)


def quarter(config: Any) -> int:
    """The side nearest to a quarter of the latents', where maps show objects: 16 of Stable Diffusion's 64."""
    return min(sides(config), key=lambda side: abs(math.log2(4 * side / config.sample_size)))
