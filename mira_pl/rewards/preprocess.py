"""From decoded images to the input of a CLIP, differentiably: what an image processor does, as torch operations."""

from functools import cache
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from ..types import Images

OPENAI_MEAN = (0.48145466, 0.4578275, 0.40821073)
OPENAI_STD = (0.26862954, 0.26130258, 0.27577711)

Pixels = Float[Tensor, "b 3 side side"]


def clip_pixels(images: Images, side: int, square: Literal["crop", "pad"] = "crop") -> Pixels:
    """[-1, 1] to CLIP's normalised pixels, `side` x `side`. Clamped pixels get no gradient, as in DNO and ReNO.

    Args:
        images: raw pictures.
        side: of the result.
        square: how another format becomes a square: its centre, or all of it between black bars (HPSv2).
    """
    pixels = (images.float() / 2 + 0.5).clamp(0, 1)
    pixels = crop(resize(pixels, side), side) if square == "crop" else pad(pixels, side)
    mean, std = statistics(pixels.device)
    return (pixels - mean) / std


@cache
@torch.inference_mode(False)  # what is cached in a validation loop must still serve a training step
def statistics(device: torch.device) -> tuple[Tensor, Tensor]:
    """CLIP's mean and standard deviation, [3, 1, 1], fp32, copied to a device once: a copy makes the host wait."""
    mean, std = (torch.tensor(values, device=device).view(3, 1, 1) for values in (OPENAI_MEAN, OPENAI_STD))
    return mean, std


def resize(pixels: Float[Tensor, "b 3 h w"], side: int) -> Float[Tensor, "b 3 H W"]:
    """The short side becomes `side`. Antialiased bicubic equals Pillow's; on CPU it exists in fp32 only."""
    height, width = pixels.shape[2:]
    short = min(height, width)
    if short == side:
        return pixels
    size = (side * height // short, side * width // short)
    return F.interpolate(pixels, size, mode="bicubic", antialias=True, align_corners=False)


def pad(pixels: Float[Tensor, "b 3 h w"], side: int) -> Pixels:
    """The long side becomes `side`, the rest is black, the picture in the middle."""
    height, width = pixels.shape[2:]
    long = max(height, width)
    high, wide = (max(1, round(length * side / long)) for length in (height, width))
    if (high, wide) != (height, width):
        pixels = F.interpolate(pixels, (high, wide), mode="bicubic", antialias=True, align_corners=False)
    left, top = (side - wide) // 2, (side - high) // 2
    return F.pad(pixels, (left, side - wide - left, top, side - high - top))


def crop(pixels: Float[Tensor, "b 3 h w"], side: int) -> Pixels:
    """The central square."""
    top, left = (round((length - side) / 2) for length in pixels.shape[2:])
    return pixels[:, :, top : top + side, left : left + side]
