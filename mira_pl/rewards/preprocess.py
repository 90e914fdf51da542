"""From decoded images to the input of a CLIP, differentiably: what an image processor does, as torch operations."""

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from ..types import Images

OPENAI_MEAN = (0.48145466, 0.4578275, 0.40821073)
OPENAI_STD = (0.26862954, 0.26130258, 0.27577711)

Pixels = Float[Tensor, "b 3 side side"]


def clip_pixels(images: Images, side: int) -> Pixels:
    """[-1, 1] to CLIP's normalised pixels, `side` x `side`. Clamped pixels get no gradient, as in DNO and ReNO."""
    pixels = crop(resize((images.float() / 2 + 0.5).clamp(0, 1), side), side)
    mean, std = (pixels.new_tensor(values).view(3, 1, 1) for values in (OPENAI_MEAN, OPENAI_STD))
    return (pixels - mean) / std


def resize(pixels: Float[Tensor, "b 3 h w"], side: int) -> Float[Tensor, "b 3 H W"]:
    """The short side becomes `side`. Antialiased bicubic equals Pillow's; on CPU it exists in fp32 only."""
    height, width = pixels.shape[2:]
    short = min(height, width)
    if short == side:
        return pixels
    size = (side * height // short, side * width // short)
    return F.interpolate(pixels, size, mode="bicubic", antialias=True, align_corners=False)


def crop(pixels: Float[Tensor, "b 3 h w"], side: int) -> Pixels:
    """The central square."""
    top, left = (round((length - side) / 2) for length in pixels.shape[2:])
    return pixels[:, :, top : top + side, left : left + side]
