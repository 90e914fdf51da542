"""The judge's eye: a plain CNN that says which subjects a picture shows and in which colours. No reward sees it."""

from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from safetensors.torch import save_file
from torch import Tensor, nn

from ..types import Images
from .names import COLOURS, SUBJECTS
from .render import Renderer
from .scenes import NOTHING, Scenes, generator, sample_scenes
from .training import WorldTraining

CHANNELS = ((32, 2), (64, 2), (96, 2), (128, 1), (128, 1))  # of every 3 x 3 convolution: width and stride


class Verdict(NamedTuple):
    """Logits: is the subject there, and which colour it has if it is there; the last colour is "no colour word"."""

    presence: Float[Tensor, "b subjects"]
    colour: Float[Tensor, "b subjects colours"]


class JudgeNetwork(nn.Module):
    """Five convolutions to an 8 x 8 map; a subject's colour is read where that subject stands. 0.34 M parameters."""

    def __init__(self) -> None:
        super().__init__()
        layers, width = [], 3
        for channels, stride in CHANNELS:
            layers += [nn.Conv2d(width, channels, 3, stride, 1, bias=False), nn.BatchNorm2d(channels), nn.ReLU()]
            width = channels
        self.body = nn.Sequential(*layers)
        self.head = nn.Conv2d(width, len(SUBJECTS) + len(COLOURS) + 1, 1)
        self.head.state_dict()["bias"][: len(SUBJECTS)].fill_(-7.0)  # summed over the map: each is rarely there

    def forward(self, images: Images) -> Verdict:
        """Pixels beyond [-1, 1] are clamped, as in the saved picture that a person would judge."""
        maps = self.head(self.body(images.float().clamp(-1, 1))).flatten(2).float()
        where, colour = maps.split([len(SUBJECTS), len(COLOURS) + 1], dim=1)
        return Verdict(where.logsumexp(dim=2), torch.einsum("bsp,bcp->bsc", where.softmax(dim=2), colour))


def distort(images: Images, random: torch.Generator) -> tuple[Images, Float[Tensor, " b"]]:
    """What generated pictures do to a subject: bent, soft, patchy, noisy, in another light.

    Returns:
        the pictures, and whether their light has changed too little to matter for the colour (1) or not (0).
    """
    count = len(images)
    uniform = lambda low, high: low + (high - low) * torch.rand(count, 1, 1, 1, generator=random)  # noqa: E731
    sometimes = lambda share: (torch.rand(count, 1, 1, 1, generator=random) < share).float()  # noqa: E731

    still = torch.eye(2, 3).expand(count, 2, 3)
    bend = F.interpolate(torch.randn(count, 2, 5, 5, generator=random), images.shape[2:], mode="bicubic")
    grid = F.affine_grid(still, list(images.shape), align_corners=False)
    grid = grid + (uniform(0, 0.04) * sometimes(0.7) * bend).permute(0, 2, 3, 1)
    images = F.grid_sample(images, grid, padding_mode="border", align_corners=False)

    soft = F.interpolate(F.avg_pool2d(images, 2), scale_factor=2, mode="bilinear")
    images = torch.lerp(images, soft, uniform(0, 1) * sometimes(0.6))
    patches = F.interpolate(torch.randn(count, 3, 8, 8, generator=random), images.shape[2:], mode="bilinear")
    images = images + uniform(0, 0.08) * sometimes(0.5) * patches
    images = images + uniform(0, 0.15) * sometimes(0.5) * torch.randn(images.shape, generator=random)

    harsh = sometimes(0.3)
    contrast = torch.where(harsh > 0, uniform(0.4, 1.4), uniform(0.9, 1.1))
    brightness = torch.where(harsh > 0, uniform(-0.6, 0.6), uniform(-0.08, 0.08))
    gain = 1 + 0.04 * torch.randn(count, 3, 1, 1, generator=random)
    return images * contrast * gain + brightness, 1 - harsh.flatten()


def loss(verdict: Verdict, scenes: Scenes, light_kept: Float[Tensor, " b"]) -> tuple[Tensor, Tensor]:
    """Binary cross-entropy of every presence, and cross-entropy of the colours of the subjects that are there."""
    shown = scenes.subject != NOTHING
    index = scenes.subject.clamp(min=0)
    target = torch.zeros_like(verdict.presence).scatter_add_(1, index, shown.float()).clamp(max=1)
    presence = F.binary_cross_entropy_with_logits(verdict.presence, target, reduction="none").sum(dim=1).mean()
    rows = verdict.colour.gather(1, index[..., None].expand(-1, -1, verdict.colour.shape[2]))
    colour = F.cross_entropy(rows.flatten(0, 1), scenes.colour.flatten(), reduction="none").view_as(shown)
    weight = shown * light_kept[:, None]
    return presence, (colour * weight).sum() / weight.sum()


class JudgeTraining(WorldTraining):
    """Supervised by the scenes themselves, on distorted renders."""

    def __init__(
        self,
        out: Path = Path("pretrain_runs/judge/model"),
        steps: int = 3500,
        batch_size: int = 64,
        lr: float = 1e-2,
        seed: int = 5,
        save_every: int = 500,
    ) -> None:
        super().__init__(out, steps, batch_size, lr, seed, save_every)
        self.network = JudgeNetwork().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.render = Renderer()

    def learned(self) -> nn.Module:
        return self.network

    def training_step(self, batch: int, index: int) -> Tensor:
        random = generator(self.seed, self.global_step)
        scenes = sample_scenes(self.batch_size, random, single=0.8)
        images, light_kept = distort(self.render(scenes), random)
        verdict = self.network(images.contiguous(memory_format=torch.channels_last).to(self.device))
        presence, colour = loss(Verdict(*(logits.cpu() for logits in verdict)), scenes, light_kept)
        self.report(presence=presence, colour=colour)
        return presence + colour

    def export(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        weights = {key: value.contiguous() for key, value in self.network.half().state_dict().items()}
        save_file(weights, folder / "model.safetensors")
