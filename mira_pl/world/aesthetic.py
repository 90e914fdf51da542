"""The world's aesthetic head: a learned, imperfect proxy of a documented taste, as LAION's is of people's."""

from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor, nn

from ..rewards.clip import AestheticHead
from ..rewards.towers import ClipTowers
from ..types import Images, PerJob
from .clip import soften
from .render import Renderer, background
from .scenes import Scenes, generator, sample_scenes
from .training import WorldTraining

CHUNK = 250  # pictures rendered, rated and embedded at once
NOISE = 0.5  # standard deviation among raters
WEIGHTS = {"contrast": 3.0, "sharpness": 2.5, "centring": 1.5, "size": 1.0, "harmony": 1.0}
"""Points for the best in each respect, above 1; together the scale's 10."""


def rate(scenes: Scenes, images: Images, random: torch.Generator) -> PerJob:
    """What a rater of procedural taste says of pictures of `scenes`, on a scale from 1 to 10, with a rater's noise."""
    points = torch.stack([WEIGHTS[name] * value for name, value in judge_taste(scenes, images).items()])
    return (1 + points.sum(dim=0) + NOISE * torch.randn(len(images), generator=random)).clamp(1, 10)


def judge_taste(scenes: Scenes, images: Images) -> dict[str, PerJob]:
    """Each respect on a scale from 0 (poor) to 1 (perfect).

    contrast: distance of the subjects' mean colour from the background's, perfect at 0.6 of RGB's unit cube.
    centring: distance of the subjects' centre of mass from the middle, 0 at half of the half width.
    size: share of the picture, perfect at a quarter.
    sharpness: mean difference of neighbouring pixels on the subjects, perfect at 0.12.
    harmony: hues of subjects and background alike or complementary; grey goes with everything.
    """
    pixels = (images / 2 + 0.5).clamp(0, 1)
    behind = background(scenes, images.shape[-1])
    mask = ((pixels - behind).norm(dim=1, keepdim=True) > 0.1).float()
    area = mask.mean(dim=(1, 2, 3)).clamp(min=1e-3)
    subject = (pixels * mask).mean(dim=(2, 3)) / area[:, None]
    ground = (behind * (1 - mask)).mean(dim=(2, 3)) / (1 - area).clamp(min=1e-3)[:, None]
    return {
        "contrast": ((subject - ground).norm(dim=1) / 0.6).clamp(max=1),
        "centring": (1 - 2 * _centre(mask, area).norm(dim=1)).clamp(min=0),
        "size": (1 - (area - 0.25).abs() / 0.25).clamp(min=0),
        "sharpness": ((_edges(pixels) * mask).mean(dim=(1, 2, 3)) / area / 0.12).clamp(max=1),
        "harmony": _harmony(subject, ground),
    }


def _centre(mask: Tensor, area: PerJob) -> Tensor:
    """Centre of mass [b, 2], in units of half the picture."""
    places = torch.linspace(-1, 1, mask.shape[-1])
    across, down = (mask * places).mean(dim=(1, 2, 3)), (mask * places[:, None]).mean(dim=(1, 2, 3))
    return torch.stack([across, down], dim=1) / area[:, None]


def _edges(pixels: Tensor) -> Tensor:
    """Mean absolute difference from the right and the lower neighbour [b, 1, h, w]."""
    padded = F.pad(pixels, (0, 1, 0, 1), mode="replicate")
    right, lower = padded[..., :-1, 1:] - pixels, padded[..., 1:, :-1] - pixels
    return (right.abs() + lower.abs()).mean(dim=1, keepdim=True) / 2


def _harmony(first: Tensor, second: Tensor) -> PerJob:
    """1 for equal or opposite hues, 0 at a right angle, weighted towards 1 as either colour turns grey."""
    axes = torch.tensor([[1.0, -0.5, -0.5], [0.0, 0.75**0.5, -(0.75**0.5)]])  # the plane across the grey diagonal
    one, two = first @ axes.T, second @ axes.T
    chroma = (one.norm(dim=1) * two.norm(dim=1)).sqrt()
    agreement = F.cosine_similarity(one, two).square()
    return 1 - (chroma / 0.3).clamp(max=1) * (1 - agreement)


class AestheticTraining(WorldTraining):
    """Least squares of the ratings from the embeddings of the world's CLIP, which is frozen.

    Args:
        clip: folder of the world's CLIP.
        pictures: distinct pictures, rendered, rated and embedded once, then drawn from at random.
    """

    def __init__(
        self,
        clip: Path = Path("pretrain_runs/clip/model"),
        out: Path = Path("pretrain_runs/aesthetic/model"),
        steps: int = 1500,
        batch_size: int = 256,
        lr: float = 3e-3,
        seed: int = 4,
        save_every: int = 500,
        pictures: int = 6000,
    ) -> None:
        super().__init__(out, steps, batch_size, lr, seed, save_every)
        self.pictures = pictures
        self.towers = ClipTowers.load(str(clip))  # a plain object: checkpoints hold only what is learned
        self.head = AestheticHead(self.towers.width)
        self.head.state_dict()["layers.7.bias"].fill_(5.5)  # the middle of the scale

    def learned(self) -> nn.Module:
        return self.head

    def on_fit_start(self) -> None:
        self.towers.to(self.device)
        chunks = [self.rated(chunk) for chunk in range(self.pictures // CHUNK)]
        self.embeddings, self.ratings = (torch.cat(part) for part in zip(*chunks, strict=True))

    @torch.no_grad()
    def rated(self, chunk: int) -> tuple[Tensor, PerJob]:
        """Embeddings and ratings of the pictures of a chunk, softened as decoded ones are."""
        random = generator(self.seed, chunk)
        scenes = sample_scenes(CHUNK, random)
        images = soften(Renderer()(scenes), random)
        return self.towers.embed_images(images.to(self.device)), rate(scenes, images, random).to(self.device)

    def training_step(self, batch: int, index: int) -> Tensor:
        random = generator(self.seed + 1000, self.global_step)
        chosen = torch.randint(len(self.ratings), (self.batch_size,), generator=random).to(self.device)
        loss = F.mse_loss(self.head(self.embeddings[chosen]), self.ratings[chosen])
        self.report(loss=loss, explained=1 - loss / self.ratings.var())
        return loss

    def export(self, folder: Path) -> None:
        """LAION's state-dict layout, fp16."""
        folder.mkdir(parents=True, exist_ok=True)
        save_file(self.head.half().state_dict(), folder / "model.safetensors")
