"""LoRA (Hu et al. 2021) added to the frozen weights at load, W + scale alpha / r B A: sampling costs no more."""

import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from diffusers.loaders import StableDiffusionXLLoraLoaderMixin
from diffusers.utils.state_dict_utils import (
    convert_state_dict_to_diffusers,
    convert_state_dict_to_peft,
    convert_unet_state_dict_to_peft,
)
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from ..hub import Need, layouts, ready
from ..hub.loading import finite, not_finite

DEFAULT = "pytorch_lora_weights.safetensors"
PARTS = ("unet.", "text_encoder.", "text_encoder_2.")
LOADER: Any = StableDiffusionXLLoraLoaderMixin  # Stable Diffusion's is the same function
A, B = ".lora_A.weight", ".lora_B.weight"


def lora_needs(lora: Sequence[str]) -> dict[str, Need]:
    """The files of LoRAs, in their order.

    Args:
        lora: of each, a .safetensors file with tensors named as by diffusers, peft or kohya; a folder or hub id that
            holds pytorch_lora_weights.safetensors; or owner/repository/file.safetensors of the hub.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no list.
    """
    if isinstance(lora, str):
        raise ValueError(f"lora must be a list, got {lora!r}")
    return {f"lora_{number}": layouts.checkpoint(name, DEFAULT) for number, name in enumerate(lora)}


def fuse_loras(lora: Sequence[str], scale: float | Sequence[float], parts: Mapping[str, Any]) -> set[str]:
    """Adds LoRAs to the weights they were trained for.

    Args:
        lora: see `lora_needs`.
        scale: one for all, or one for each.
        parts: the model's `unet`, `text_encoder` and, of SDXL, `text_encoder_2`.

    Returns:
        The parts that were changed.

    Raises:
        OSError: a file is neither on disk nor can it be fetched.
        ValueError: a file is no LoRA, or holds a tensor that is no number or fits no layer of the model.
    """
    scales = [scale] * len(lora) if isinstance(scale, int | float) else list(scale)
    if len(scales) != len(lora) or not all(math.isfinite(factor) for factor in scales):
        raise ValueError(f"lora_scale must be a finite number, or one for each of {len(lora)} LoRAs: got {scale!r}")
    changed = set()
    for need, factor in zip(lora_needs(lora).values(), scales, strict=True):
        (file,) = ready(need).files.values()
        changed |= fuse(file, factor, parts)
    return changed


@torch.no_grad()
def fuse(file: Path, scale: float, parts: Mapping[str, Any]) -> set[str]:
    """Adds one LoRA, in place; the sum is made in float32 at least, then rounded once to the dtype of the weights.

    Returns the parts that it changes.
    """
    tensors, layers = read(file, parts["unet"].config), {}
    for name, part in parts.items():
        layers |= {f"{name}.{path}": m for path, m in part.named_modules() if isinstance(m, nn.Linear | nn.Conv2d)}
    names = sorted({key.split(".lora_")[0] for key in tensors})
    for name in names:
        layer = layers.get(name) or layers.get(name.replace(".text_model.", "."))  # CLIPTextModel since 5.6
        down, up = tensors.pop(name + A, None), tensors.pop(name + B, None)
        if layer is None or down is None or up is None:
            raise ValueError(f"{file} is no LoRA of this model: no layer takes its {name!r}")
        down, up, weight = down.flatten(1), up.flatten(1), layer.weight
        if (len(up), up.shape[1], down.shape[1]) != (len(weight), len(down), weight[0].numel()):
            raise ValueError(
                f"{file} is no LoRA of this model: {name!r} is B {[*up.shape]} times A {[*down.shape]} "
                f"for a weight {[*weight.shape]}"
            )
        exact = torch.promote_types(weight.dtype, torch.float32)
        if not finite(down) or not finite(up):
            raise ValueError(not_finite(file, name))
        if weight.is_meta:  # nothing to add to
            continue
        change = (up.to(exact) @ down.to(exact)).view_as(weight)
        weight.copy_(weight.to(exact) + scale * change)
    if tensors:
        raise ValueError(f"{file} is no LoRA of this model: no layer takes its {min(tensors)!r}")
    return {name.split(".")[0] for name in names}


def read(file: Path, unet: Mapping[str, Any]) -> dict[str, Tensor]:
    """A and B of every layer, as `unet.mid_block.attentions.0.proj_in.lora_A.weight`, with alpha / r in A.

    Args:
        file: any that diffusers' pipelines load.
        unet: configuration of the U-Net, by which kohya's numbers of blocks are understood.
    """
    try:
        with safe_open(file, "pt") as header:
            if any("dora_scale" in key or "lora_magnitude" in key for key in header.keys()):  # noqa: SIM118
                raise ValueError("it is a DoRA, which also rescales the weights")
        state, alphas, settings = LOADER.lora_state_dict(
            str(file), unet_config=unet, use_safetensors=True, return_lora_metadata=True
        )
        for name, alpha in (alphas or {}).items():  # kohya's, by the name of the layer or of its A
            layer = name.removesuffix(".alpha")
            down = layer if layer.endswith(".down.weight") else f"{layer}.lora.down.weight"
            state[down] = state[down].float() * (alpha / len(state[down]))
        tensors = _by_peft_names(state)
    except (SafetensorError, KeyError, ValueError, OSError) as error:
        raise ValueError(f"{file} cannot be read as a LoRA: {' '.join(str(error).split())[:200]}") from error
    for key in [key for key in tensors if settings and key.endswith(A)]:
        tensors[key] = tensors[key].float() * _alpha_over_rank(settings or {}, key.removesuffix(A), len(tensors[key]))
    return tensors


def _by_peft_names(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors of the three networks by peft's names, the others as they are."""
    named = {key: value for key, value in state.items() if not key.startswith(PARTS)}
    for part in PARTS:
        own = {key.removeprefix(part): value for key, value in state.items() if key.startswith(part)}
        if part == PARTS[0]:
            own = convert_unet_state_dict_to_peft(own)
        elif not all(key.endswith((A, B)) for key in own):
            own = convert_state_dict_to_peft(convert_state_dict_to_diffusers(own))
        named |= {part + key: value for key, value in own.items()}
    return named


def _alpha_over_rank(settings: Mapping[str, Any], layer: str, rank: int) -> float:
    """The factor of peft's LoraConfig, which diffusers stores beside the tensors as `unet.lora_alpha` and so on."""
    part, _, path = layer.partition(".")
    patterns = settings.get(f"{part}.alpha_pattern") or {}
    matching = (alpha for pattern, alpha in patterns.items() if re.fullmatch(rf"(.*\.)?({pattern})", path))
    alpha = next(matching, settings.get(f"{part}.lora_alpha", rank))
    return alpha / (rank**0.5 if settings.get(f"{part}.use_rslora") else rank)
