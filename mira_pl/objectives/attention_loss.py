"""What InitNO asks of attention maps: every object has a place, no two share one, and each is in one piece.

Everything here is for one job. A map is [side, side]. Source: `pipeline_sd_initno.py`, `attn_utils.py` and
`gaussian_smoothing.py` of the public code (Guo et al. 2024, Apache-2.0).
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

Maps = Float[Tensor, "objects side side"]
SHARPEN = 100.0  # before the softmax over tokens


@dataclass(frozen=True, eq=False)
class AttentionLoss:
    """The parts of the loss, one number each; their sum is minimised.

    Attributes:
        cross: 1 - the peak of the weakest object.
        own: how much the objects' regions overlap, 0 to 0.5; 0 while `cross` is above 0.5, when not all have a place.
        clean: attention outside the object's own region.
    """

    cross: Tensor
    own: Tensor
    clean: Tensor


def attention_loss(
    cross: Float[Tensor, "pixels tokens"], own: Float[Tensor, "pixels pixels"], places: list[int]
) -> AttentionLoss:
    """The loss of the objects at these token positions.

    Args:
        cross: attention of pixels at tokens, start and end token included.
        own: attention of pixels at one another.
        places: positions of the objects' tokens, at least one.
    """
    side = round(len(cross) ** 0.5)
    shares = torch.softmax(SHARPEN * cross[:, 1:-1], dim=1)[:, [place - 1 for place in places]]
    maps = smooth(shares.T.reshape(-1, side, side))
    peaks, where = maps.flatten(1).max(dim=1)
    weakest = (1 - peaks).clamp(min=0).max()
    shared = overlap(smooth(own[where].view(-1, side, side)))
    spilt = torch.stack([spill(one, int(peak)) for one, peak in zip(maps, where, strict=True)]).sum()
    return AttentionLoss(weakest, torch.where(weakest > 0.5, 0 * shared, shared), spilt)


def smooth(maps: Maps) -> Maps:
    """3 x 3 Gaussian, reflected at the border; the public kernel is exp(-d^2), its own sigma of 0.5 counted twice."""
    steps = torch.arange(-1.0, 2.0, device=maps.device, dtype=maps.dtype)
    kernel = torch.exp(-(steps[:, None] ** 2 + steps[None, :] ** 2))
    padded = F.pad(maps[:, None], (1, 1, 1, 1), mode="reflect")
    return F.conv2d(padded, (kernel / kernel.sum())[None, None])[:, 0]


def overlap(regions: Maps) -> Tensor:
    """Mean over pairs of the sum of the smaller over the sum of both; 0 for a single object."""
    pairs = torch.combinations(torch.arange(len(regions), device=regions.device))
    if not len(pairs):
        return regions.new_zeros(())
    first, second = regions[pairs[:, 0]].flatten(1), regions[pairs[:, 1]].flatten(1)
    return (torch.minimum(first, second).sum(dim=1) / ((first + second).sum(dim=1) + 1e-6)).mean()


def spill(one: Float[Tensor, "side side"], peak: int) -> Tensor:
    """The largest attention outside the peak's region, if it exceeds the smallest inside, else 0."""
    region = connected(one.detach() >= otsu(one.detach()), peak)
    outside = torch.where(region, 0.0, one).max()
    return outside if bool(outside > torch.where(region, one, 1.0).min()) else outside * 0


def otsu(one: Float[Tensor, "side side"]) -> float:
    """Otsu's threshold of a map in [0, 1], on 256 levels: the most variance between the two classes."""
    levels = torch.arange(256, dtype=torch.float64)
    counts = torch.bincount((one * 255).long().clamp(0, 255).flatten().cpu(), minlength=256).double()
    share = counts / counts.sum()
    below, mean = share.cumsum(0), (share * levels).cumsum(0)
    above = 1 - below
    between = (mean[-1] * below - mean) ** 2 / (below * above).clamp(min=1e-12)
    between[(below < 1e-7) | (above < 1e-7)] = 0
    return float(between.argmax()) / 255


def connected(mask: Bool[Tensor, "side side"], pixel: int | Int[Tensor, ""]) -> Bool[Tensor, "side side"]:
    """The 4-connected part of a mask that holds a pixel; nothing where the pixel is outside the mask."""
    region = torch.zeros_like(mask).flatten()
    region[pixel] = True
    region = region.view_as(mask) & mask
    while True:
        wide = F.pad(region, (1, 1, 1, 1))
        grown = mask & (region | wide[:-2, 1:-1] | wide[2:, 1:-1] | wide[1:-1, :-2] | wide[1:-1, 2:])
        if torch.equal(grown, region):
            return region
        region = grown
