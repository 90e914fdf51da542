"""The figures of `mira_pl.hub.published`, counted on the meta device, where nothing is computed.

Of one picture, without guidance; denoisers and decoders in bfloat16, rewards in float32.
"""

from collections.abc import Callable, Iterable
from typing import Any, cast

import torch
import torch.nn.functional as F
from diffusers import (
    FluxTransformer2DModel,
    PixArtTransformer2DModel,
    SanaTransformer2DModel,
    SD3Transformer2DModel,
    UNet2DConditionModel,
)
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from transformers import CLIPModel

from mira_pl.backbones.flux import PATCH, pack
from mira_pl.backbones.latent import frozen
from mira_pl.hub.published import Cost
from mira_pl.memory import KeptBytes
from mira_pl.rewards import BLIPVQA, Reward
from mira_pl.rewards.towers import ClipTowers

from .architectures import blip_vqa
from .flops import counted
from .models import bert_words

META = torch.device("meta")
PROMPT = "a green bench and a blue bowl"
"""Of T2I-CompBench: two noun phrases, so two questions of BLIP-VQA."""

Call = Callable[[Tensor], Tensor]


class FusedAttention(TorchFunctionMode):
    """Attention as a fused kernel runs it, which keeps no scores: on the meta device torch takes `math`."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return (fused if func is F.scaled_dot_product_attention else func)(*args, **(kwargs or {}))


def fused(
    query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor | None = None, dropout_p: float = 0.0,
    is_causal: bool = False, scale: float | None = None, enable_gqa: bool = False,
) -> Tensor:  # fmt: skip
    """`scaled_dot_product_attention` by the memory-efficient kernel."""
    assert not enable_gqa
    bias = None if attn_mask is None else attn_mask.to(query.dtype).expand(*query.shape[:-1], key.shape[-2])
    kernel = torch.ops.aten._scaled_dot_product_efficient_attention
    return kernel(query, key, value, bias, True, dropout_p, is_causal, scale=scale)[0]


def cost(call: Call, shape: tuple[int, ...], weights: Iterable[Tensor], dtype: torch.dtype = torch.bfloat16) -> Cost:
    """Of a call and of its gradient in the tensor it is given; the weights are no part of what is kept."""
    given = torch.empty(shape, dtype=dtype, device=META, requires_grad=True)
    with torch.no_grad():
        forward = counted(lambda: call(given))
    both = counted(lambda: call(given).sum().backward())
    kept = KeptBytes(weights)
    with FusedAttention(), kept:
        call(given)
    return Cost(kept.bytes / 1e9, forward / 1e12, (both - forward) / 1e12)


def step(denoiser: nn.Module, side: int, tokens: int) -> Cost:
    """One call of a denoiser, for latents of that side and a text of so many tokens."""
    network = half(denoiser)
    channels = network.config.in_channels // (PATCH**2 if isinstance(network, FluxTransformer2DModel) else 1)
    return cost(READERS[type(network)](network, side, tokens), (1, channels, side, side), network.parameters())


def decode(vae: nn.Module, side: int) -> Cost:
    """Decoding latents of that side, of which every block's activations are kept."""
    network = half(vae)
    shape = (1, network.config.latent_channels, side, side)
    return cost(lambda x: network.decode(x).sample, shape, network.parameters())


def look(clip: CLIPModel, side: int = 512) -> Cost:
    """Any reward on a CLIP: the embedding of a picture of that side. That of the text is a constant of the run."""
    towers = ClipTowers(frozen(nn.Module.to(clip, META)), cast(Any, None))
    return cost(towers.embed_images, (1, 3, side, side), clip.parameters(), torch.float32)


def score(reward: Reward, network: nn.Module, side: int = 512) -> Cost:
    """A reward on the meta device, whose weights are those of `network`."""
    return cost(lambda x: reward.score(x, [PROMPT]), (1, 3, side, side), network.parameters(), torch.float32)


class RandomBLIPVQA(BLIPVQA):
    """With ViT-B, on the meta device."""

    def __init__(self) -> None:
        self.blip, self.tokenizer = frozen(nn.Module.to(blip_vqa(), META)), bert_words()
        self.side = cast(Any, self.blip.config).vision_config.image_size


def half(network: nn.Module) -> Any:
    """Frozen, on the meta device, in bfloat16."""
    return frozen(nn.Module.to(network, META, torch.bfloat16))


def text(*shape: int) -> Tensor:
    """What a network of low precision reads, for one prompt."""
    return torch.empty(1, *shape, dtype=torch.bfloat16, device=META)


def unet(network: Any, side: int, tokens: int) -> Call:
    words, pooled = text(tokens, network.config.cross_attention_dim), {"text_embeds": text(1280), "time_ids": text(6)}
    return lambda x: network(x, text(), words, added_cond_kwargs=pooled).sample


def pixart(network: Any, side: int, tokens: int) -> Call:
    """Of 512 pixels or less: larger models read the picture's size, too."""
    given = {"encoder_hidden_states": text(tokens, network.config.caption_channels), "timestep": text()}
    given |= {"added_cond_kwargs": {"resolution": None, "aspect_ratio": None}}
    return lambda x: network(x, **given, encoder_attention_mask=text(tokens).bool()).sample


def sd3(network: Any, side: int, tokens: int) -> Call:
    words, pooled = text(tokens, network.config.joint_attention_dim), text(network.config.pooled_projection_dim)
    return lambda x: network(x, words, pooled, text()).sample


def flux(network: Any, side: int, tokens: int) -> Call:
    words, pooled = text(tokens, network.config.joint_attention_dim), text(network.config.pooled_projection_dim)
    ids = (torch.empty(count, 3, device=META) for count in ((side // PATCH) ** 2, tokens))
    places = dict(zip(("img_ids", "txt_ids"), ids, strict=True))
    scale = text() if network.config.guidance_embeds else None
    return lambda x: network(pack(x), words, pooled, text(), **places, guidance=scale).sample


def sana(network: Any, side: int, tokens: int) -> Call:
    words = text(tokens, network.config.caption_channels)
    return lambda x: network(x, words, text(), encoder_attention_mask=text(tokens).bool()).sample


READERS: dict[type, Callable[[Any, int, int], Call]] = {
    UNet2DConditionModel: unet,
    PixArtTransformer2DModel: pixart,
    SD3Transformer2DModel: sd3,
    FluxTransformer2DModel: flux,
    SanaTransformer2DModel: sana,
}
"""How denoisers are called, as the backbones call them."""
