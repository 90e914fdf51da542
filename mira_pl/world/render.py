"""Scenes to pictures, as one batch of tensor operations."""

from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from ..types import Images
from .glyphs import load_atlas
from .names import COLOURS, NATURAL, TINTS
from .scenes import NOTHING, Scenes

LUMINANCE = (0.299, 0.587, 0.114)


@dataclass(frozen=True)
class Renderer:
    """Draws scenes at `pixels` x `pixels`, in [-1, 1]."""

    pixels: int = 64
    atlas: Float[Tensor, "subjects 4 64 64"] = field(default_factory=load_atlas)

    def __call__(self, scenes: Scenes) -> Images:
        """Background first, then the two subjects over it."""
        picture = background(scenes, self.pixels)
        for slot in (0, 1):
            present = scenes.subject[:, slot] != NOTHING
            if present.any():
                picture[present] = self._paste(picture[present], scenes, slot, present)
        return 2 * picture - 1

    def _paste(self, picture: Tensor, scenes: Scenes, slot: int, present: Tensor) -> Tensor:
        glyphs = tint(self.atlas[scenes.subject[present, slot]], scenes.colour[present, slot])
        size, angle = scenes.size[present, slot], scenes.angle[present, slot]
        centre, mirror = scenes.centre[present, slot], scenes.mirror[present, slot]
        cos, sin = torch.cos(angle), torch.sin(angle)
        # affine_grid maps output to input coordinates: p -> M (p - centre), M = mirror . rotation / size
        matrix = torch.stack([torch.stack([mirror * cos, mirror * sin], 1), torch.stack([-sin, cos], 1)], 1)
        matrix = matrix / size[:, None, None]
        offset = -(matrix * centre[:, None]).sum(dim=2, keepdim=True)
        grid = F.affine_grid(
            torch.cat([matrix, offset], 2), [len(size), 4, self.pixels, self.pixels], align_corners=False
        )
        layer = F.grid_sample(glyphs, grid, align_corners=False)
        return picture * (1 - layer[:, 3:]) + layer[:, :3]


def background(scenes: Scenes, pixels: int) -> Float[Tensor, "b 3 h w"]:
    """A vertical gradient, or sky and ground with a horizon, in [0, 1]."""
    height = torch.linspace(-1, 1, pixels)
    step = torch.sigmoid((height[None] - scenes.horizon[:, None]) * pixels / 2)
    blend = torch.where(scenes.horizon.isnan()[:, None], (height[None] + 1) / 2, step)[:, None, :, None]
    column = scenes.sky[:, :, None, None] * (1 - blend) + scenes.ground[:, :, None, None] * blend
    return column.expand(-1, -1, -1, pixels).clone()


def tint(glyphs: Float[Tensor, "b 4 h w"], colour: Tensor) -> Float[Tensor, "b 4 h w"]:
    """Recolour by luminance and premultiply by alpha; `NATURAL` keeps the glyph's own colours."""
    low, high = (torch.tensor([TINTS[name][end] for name in COLOURS] + [(0.0, 0.0, 0.0)]) for end in (0, 1))
    luminance = (glyphs[:, :3] * torch.tensor(LUMINANCE)[:, None, None]).sum(dim=1, keepdim=True)
    painted = torch.lerp(low[colour][..., None, None], high[colour][..., None, None], luminance)
    rgb = torch.where((colour == NATURAL)[:, None, None, None], glyphs[:, :3], painted)
    alpha = glyphs[:, 3:]
    return torch.cat([rgb * alpha, alpha], dim=1)
