"""Rewards that need no model: brightness, darkness, and the size of the compressed file."""

from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from typing import ClassVar

import torch
from jaxtyping import UInt8
from PIL import Image
from torch import Tensor

from ..types import Images, PerJob
from .base import Reward


class Brightness(Reward):
    """Mean of the raw pixels: 1 is white, and beyond 1 is possible, as DNO leaves the decoder's range unclamped."""

    differentiable: ClassVar[bool] = True

    def score(self, images: Images, prompts: Sequence[str]) -> PerJob:
        """The mean over channels and pixels."""
        return images.float().mean(dim=(1, 2, 3))


class Darkness(Reward):
    """Minus the brightness: 1 is black."""

    differentiable: ClassVar[bool] = True

    def score(self, images: Images, prompts: Sequence[str]) -> PerJob:
        """Minus the mean over channels and pixels."""
        return -images.float().mean(dim=(1, 2, 3))


@dataclass(frozen=True)
class JPEGSize(Reward):
    """Minus the kilobytes (1000 bytes) of the picture as a JPEG file: compressibility, a black box.

    Args:
        quality: Pillow's quality; 95 as in DDPO, with Pillow's default chroma subsampling.
    """

    quality: int = 95
    differentiable: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if not 1 <= self.quality <= 100:
            raise ValueError(f"JPEG quality is a number from 1 to 100, but {self.quality} came. The papers use 95.")

    def score(self, images: Images, prompts: Sequence[str]) -> PerJob:
        """Minus the file size in kB of the clamped 8-bit picture."""
        sizes = [self._bytes(picture) / 1000 for picture in eight_bit(images)]
        return -torch.tensor(sizes, device=images.device)

    def _bytes(self, picture: UInt8[Tensor, "h w 3"]) -> int:
        file = BytesIO()
        Image.fromarray(picture.numpy()).save(file, "JPEG", quality=self.quality)
        return file.tell()


def eight_bit(images: Images) -> UInt8[Tensor, "b h w 3"]:
    """The pixels of the saved picture: [-1, 1] clamped, rounded to 0 .. 255, on the CPU."""
    pixels = (images.detach().float().cpu() / 2 + 0.5).clamp(0, 1) * 255
    return pixels.round().to(torch.uint8).permute(0, 2, 3, 1).contiguous()
