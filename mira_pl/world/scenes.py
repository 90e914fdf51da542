"""Scenes: what is in a picture and where, sampled from a seed, and the caption that says so."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from .names import ANIMALS, COLOURED_OBJECTS, COLOURS, NATURAL, PAIR_ANIMALS, SUBJECTS, TINTS, WORN_OBJECTS

NOTHING = -1
TEMPLATE = "generate an image of "


@dataclass(frozen=True)
class Scenes:
    """A batch of scenes. Positions and sizes in units of half the picture, angles in radians, colours RGB in [0, 1]."""

    subject: Int[Tensor, "b 2"]
    colour: Int[Tensor, "b 2"]
    centre: Float[Tensor, "b 2 2"]
    size: Float[Tensor, "b 2"]
    angle: Float[Tensor, "b 2"]
    mirror: Float[Tensor, "b 2"]
    sky: Float[Tensor, "b 3"]
    ground: Float[Tensor, "b 3"]
    horizon: Float[Tensor, " b"]
    captions: list[str]


def generator(seed: int, step: int) -> torch.Generator:
    """The random stream of batch `step`: batches can be made in any order, so training resumes exactly."""
    return torch.Generator().manual_seed(seed * 1_000_003 + step)


def sample_scenes(
    count: int, random: torch.Generator, single: float = 0.7, palette: int = len(COLOURS), spread: float = 1.0
) -> Scenes:
    """Draw `count` scenes: a share `single` of one animal, the rest half animal pairs and half animal-object pairs.

    Args:
        palette: how many of the colours these scenes share; few make animals of one colour meet in a batch.
        spread: share of the widest range of places, sizes and tilts, 0 to 1.
    """
    subject, colour = _sample_subjects(count, random, single, palette)
    pair = subject[:, 1] != NOTHING
    uniform = lambda *shape: torch.rand(*shape, generator=random)  # noqa: E731
    about_0 = lambda *shape: spread * (2 * uniform(*shape) - 1)  # noqa: E731

    size = torch.where(pair[:, None], 0.46 + 0.06 * about_0(count, 2), 0.715 + 0.135 * about_0(count, 2))
    room = (1 - 0.95 * size)[..., None]
    centre = about_0(count, 2, 2) * room.clamp(min=0)
    side = torch.where(uniform(count) < 0.5, 1.0, -1.0)
    beside = torch.stack([side, -side], dim=1) * (0.47 + 0.06 * uniform(count, 2))
    centre[..., 0] = torch.where(pair[:, None], beside, centre[..., 0])
    centre[..., 1] = torch.where(pair[:, None], 0.6 * centre[..., 1], centre[..., 1])

    sky, ground, horizon = _sample_background(subject, colour, random)
    return Scenes(
        subject=subject,
        colour=colour,
        centre=centre,
        size=size,
        angle=0.25 * about_0(count, 2),
        mirror=torch.where(uniform(count, 2) < 0.5, 1.0, -1.0),
        sky=sky,
        ground=ground,
        horizon=horizon,
        captions=[_caption(s, c, random) for s, c in zip(subject.tolist(), colour.tolist(), strict=True)],
    )


def named_scenes(subject: Tensor, colour: Tensor, random: torch.Generator) -> Scenes:
    """Scenes of the given single subjects and colours [b], everything else drawn."""
    scenes = sample_scenes(len(subject), random, single=1.0)
    subjects = torch.stack([subject, torch.full_like(subject, NOTHING)], dim=1)
    colours = torch.stack([colour, torch.full_like(colour, NATURAL)], dim=1)
    sky, ground, horizon = _sample_background(subjects, colours, random)
    captions = [_caption(s, c, random) for s, c in zip(subjects.tolist(), colours.tolist(), strict=True)]
    kept = {name: getattr(scenes, name) for name in ("centre", "size", "angle", "mirror")}
    return Scenes(subject=subjects, colour=colours, sky=sky, ground=ground, horizon=horizon, captions=captions, **kept)


def _sample_subjects(count: int, random: torch.Generator, single: float, palette: int) -> tuple[Tensor, Tensor]:
    def pick(high: int) -> Tensor:
        return torch.randint(high, (count,), generator=random)

    paired = torch.tensor([SUBJECTS.index(name) for name in PAIR_ANIMALS])
    kind, from_pairs = torch.rand(count, generator=random), torch.rand(count, generator=random) < 0.75
    alone, first = pick(len(ANIMALS)), paired[pick(len(paired))]
    partner = paired[pick(len(paired))]
    partner = torch.where(
        partner == first, paired[(pick(len(paired) - 1) + 1 + _rank(first, paired)) % len(paired)], partner
    )
    thing = len(ANIMALS) + pick(len(COLOURED_OBJECTS) + len(WORN_OBJECTS))

    is_single, is_animals = kind < single, kind < single + (1 - single) / 2
    left = torch.where(is_single | ~from_pairs, alone, first)
    right = torch.where(is_animals, torch.where(partner == left, (left + 1) % len(ANIMALS), partner), thing)
    right = torch.where(is_single, NOTHING, right)

    shared = torch.arange(len(COLOURS)) if palette == len(COLOURS) else torch.randperm(len(COLOURS), generator=random)
    tint, tinted = shared[pick(palette)], torch.rand(count, generator=random) < 0.6
    left_colour = torch.where(is_single & tinted, tint, NATURAL)
    coloured = (right >= len(ANIMALS)) & (right < len(ANIMALS) + len(COLOURED_OBJECTS))
    right_colour = torch.where(coloured, tint, NATURAL)
    return torch.stack([left, right], 1), torch.stack([left_colour, right_colour], 1)


def _rank(values: Tensor, among: Tensor) -> Tensor:
    """Position of each value in `among`."""
    return (values[:, None] == among[None]).float().argmax(dim=1)


def _sample_background(subject: Tensor, colour: Tensor, random: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Two colours a picture, of any hue and lightness, but apart from the tint of the subjects."""
    count = len(subject)
    middle = torch.tensor([[(low + high) / 2 for low, high in zip(*tint, strict=True)] for tint in TINTS.values()])
    middle = torch.cat([middle, torch.full((1, 3), 9.0)])  # natural colours exclude no background
    tints = middle[colour]
    best, best_distance = torch.empty(0), torch.empty(0)
    for attempt in range(4):
        light = 0.05 + 0.9 * torch.rand(count, 2, 1, generator=random)
        hue = torch.rand(count, 2, 3, generator=random)
        colours = (light + 0.35 * (hue - 0.5)).clamp(0, 1)
        distance = (colours[:, :, None] - tints[:, None]).norm(dim=-1).amin(dim=(1, 2))
        better = distance > 0 if attempt == 0 else (best_distance < 0.35) & (distance > best_distance)
        best = colours if attempt == 0 else torch.where(better[:, None, None], colours, best)
        best_distance = distance if attempt == 0 else torch.where(better, distance, best_distance)
    is_gradient = torch.rand(count, generator=random) < 0.5
    horizon = torch.where(is_gradient, float("nan"), 0.8 * torch.rand(count, generator=random) - 0.1)
    return best[:, 0], best[:, 1], horizon


def _caption(subject: list[int], colour: list[int], random: torch.Generator) -> str:
    draw = torch.rand(3, generator=random).tolist()
    first = noun_phrase(subject[0], colour[0], draw[0] < 0.5)
    text = first
    if subject[1] != NOTHING:
        second = noun_phrase(subject[1], colour[1], draw[0] < 0.5)
        text = f"{first} {'with' if SUBJECTS[subject[1]] in WORN_OBJECTS else 'and'} {second}"
    return TEMPLATE + text if draw[1] < 0.5 else text


def noun_phrase(subject: int, colour: int, correct_article: bool) -> str:
    """For example "a white cat". The prompt sets write "a ant" and "a orange bowl": both articles are learned."""
    words = SUBJECTS[subject] if colour == NATURAL else f"{COLOURS[colour]} {SUBJECTS[subject]}"
    return f"{'an' if correct_article and words[0] in 'aeiou' else 'a'} {words}"
