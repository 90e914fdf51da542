"""Does the embedded model draw what it is told? Measured by the judge on its own pictures."""

import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from ..backbones import Backbone
from ..judges.truth import TruthJudge
from ..metrics import cmmd
from ..noise import draw
from ..prompt_sets import ANIMALS
from ..prompts import make_jobs
from ..rewards.towers import ClipTowers
from ..runs import to_picture
from ..trajectory import sample
from ..types import Images, Job
from ..world.names import COLOURED_OBJECTS, COLOURS, NATURAL, PAIR_ANIMALS, SUBJECTS, WORN_OBJECTS
from ..world.render import Renderer
from ..world.scenes import generator, named_scenes
from .statistics import bootstrap

BATCH = 45


@dataclass(frozen=True)
class Rate:
    """A share with its 95 % interval over prompts."""

    name: str
    count: int
    value: float
    low: float
    high: float


def plain_prompts() -> list[str]:
    """The 45 animals under the paper's template."""
    return [f"generate an image of a {animal}" for animal in ANIMALS]


def coloured_prompts() -> list[str]:
    """One prompt an animal, the eleven colours in turn."""
    return [f"a {COLOURS[index % len(COLOURS)]} {animal}" for index, animal in enumerate(ANIMALS)]


def pair_prompts(stride: int = 4) -> list[str]:
    """Every `stride`-th prompt of the Animal-Animal and Animal-Object sets, objects in turning colours."""
    animals = [f"a {a} and a {b}" for index, a in enumerate(PAIR_ANIMALS) for b in PAIR_ANIMALS[index + 1 :]]
    objects = [
        f"a {animal} and a {COLOURS[(i + j) % len(COLOURS)]} {thing}"
        for i, animal in enumerate(PAIR_ANIMALS)
        for j, thing in enumerate(COLOURED_OBJECTS)
    ]
    worn = [f"a {animal} with a {thing}" for animal in PAIR_ANIMALS for thing in WORN_OBJECTS]
    return [*animals, *objects, *worn][::stride]


def paint(backbone: Backbone, jobs: Sequence[Job]) -> Images:
    """Pictures of the frozen model."""
    parts: Iterable[Sequence[Job]] = (jobs[i : i + BATCH] for i in range(0, len(jobs), BATCH))
    with torch.no_grad():
        return torch.cat([_paint_batch(backbone, part) for part in parts])


def _paint_batch(backbone: Backbone, jobs: Sequence[Job]) -> Images:
    return sample(backbone, backbone.encode([job.prompt for job in jobs]), draw(jobs, backbone.noise_shape)).images


def rate(name: str, right: Float[Tensor, " n"], jobs: Sequence[Job]) -> Rate:
    """Share of 1 among jobs that have a verdict, resampled over prompts."""
    known = [index for index, value in enumerate(right.tolist()) if value == value]
    values, groups = right[known].numpy(), [jobs[index].prompt for index in known]
    return Rate(name, len(known), *bootstrap(lambda rows: float(values[rows].mean()), groups))


def measure(
    backbone: Backbone, judge: TruthJudge, seeds: Sequence[int], limit: int | None = None
) -> tuple[list[Rate], Images]:
    """The rates that the model card states, and the plain pictures; `limit` keeps the first prompts of each set."""
    sets = (plain_prompts(), coloured_prompts(), pair_prompts())
    plain, coloured, pairs = (make_jobs(prompts[:limit], seeds) for prompts in sets)
    images = [paint(backbone, jobs) for jobs in (plain, coloured, pairs)]
    prompts = [[job.prompt for job in jobs] for jobs in (plain, coloured, pairs)]
    rates = [
        rate("right animal, plain prompts", judge.right_subject(images[0], prompts[0]), plain),
        rate("right animal, coloured prompts", judge.right_subject(images[1], prompts[1]), coloured),
        rate("right colour", judge.right_colour(images[1], prompts[1]), coloured),
        rate("both subjects of two", judge.right_subject(images[2], prompts[2]), pairs),
    ]
    return rates, images[0]


def contact_sheet(images: Images, columns: int = 15) -> bytes:
    """A PNG of the pictures, row by row."""
    rows = -(-len(images) // columns)
    side = images.shape[-1]
    sheet = images.new_full((rows * columns, 3, side, side), 1.0)
    sheet[: len(images)] = images
    grid = sheet.view(rows, columns, 3, side, side).permute(2, 0, 3, 1, 4).reshape(3, rows * side, columns * side)
    buffer = io.BytesIO()
    to_picture(grid).save(buffer, "PNG")
    return buffer.getvalue()


def distance_to_renders(images: Images) -> float:
    """Unbiased CMMD, by the world's CLIP, between plain pictures of the model and as many renders without a tint."""
    random = generator(2025, 0)
    animals = torch.tensor([SUBJECTS.index(animal) for animal in ANIMALS]).repeat(-(-len(images) // len(ANIMALS)))
    scenes = named_scenes(animals[: len(images)], torch.full((len(images),), NATURAL), random)
    towers = ClipTowers.load("emoji")
    with torch.no_grad():
        return cmmd(towers.embed_images(images), towers.embed_images(Renderer()(scenes)), unbiased=True)
