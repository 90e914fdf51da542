from dataclasses import fields

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mira_pl.judges import parse
from mira_pl.world.names import ANIMALS, COLOURED_OBJECTS, COLOURS, NATURAL, PAIR_ANIMALS, SUBJECTS, WORN_OBJECTS
from mira_pl.world.scenes import NOTHING, Scenes, generator, named_scenes, noun_phrase, sample_scenes

seeds = st.integers(0, 10_000)


def named(scenes: Scenes, row: int) -> list[tuple[str, str | None]]:
    """What picture `row` shows, in the words of `parse`."""
    pairs = zip(scenes.subject[row].tolist(), scenes.colour[row].tolist(), strict=True)
    return [(SUBJECTS[s], None if c == NATURAL else COLOURS[c]) for s, c in pairs if s != NOTHING]


@given(seed=seeds, step=seeds)
@settings(max_examples=40, deadline=None)
def test_captions_say_what_is_there(seed, step):
    scenes = sample_scenes(16, generator(seed, step))
    assert [parse(caption) for caption in scenes.captions] == [named(scenes, row) for row in range(16)]


@given(
    subject=st.integers(0, len(SUBJECTS) - 1),
    colour=st.integers(0, NATURAL),
    correct_article=st.booleans(),
    template=st.sampled_from(["", "generate an image of ", "Generate an image of "]),
)
def test_every_phrase_is_read_back(subject, colour, correct_article, template):
    expected = (SUBJECTS[subject], None if colour == NATURAL else COLOURS[colour])
    assert parse(template + noun_phrase(subject, colour, correct_article)) == [expected]


@given(seed=seeds)
@settings(max_examples=20, deadline=None)
def test_scenes_depend_on_seed_and_step_alone(seed):
    one, two = (sample_scenes(8, generator(seed, 3)) for _ in range(2))
    for field in fields(Scenes):
        left, right = getattr(one, field.name), getattr(two, field.name)
        if isinstance(left, list):
            assert left == right
        else:
            torch.testing.assert_close(left, right, equal_nan=True)
    assert sample_scenes(8, generator(seed, 4)).captions != one.captions


@given(seed=seeds, palette=st.integers(1, len(COLOURS) - 1))
@settings(max_examples=20, deadline=None)
def test_palette_bounds_the_colours_of_a_batch(seed, palette):
    colours = sample_scenes(200, generator(seed, 0), palette=palette).colour.unique().tolist()
    assert len(set(colours) - {NATURAL}) == palette


def test_shares_of_single_animals_pairs_and_objects():
    scenes = sample_scenes(4000, generator(0, 0))
    second = scenes.subject[:, 1]
    assert (second == NOTHING).float().mean().item() == pytest.approx(0.70, abs=0.03)
    assert (second >= len(ANIMALS)).float().mean().item() == pytest.approx(0.15, abs=0.03)
    assert set(scenes.subject[:, 0].tolist()) == set(range(len(ANIMALS)))
    assert (scenes.subject[:, 0] != second).all()


def test_only_single_animals_and_plain_objects_are_tinted():
    scenes = sample_scenes(4000, generator(0, 1))
    alone = scenes.subject[:, 1] == NOTHING
    assert (scenes.colour[~alone, 0] == NATURAL).all()
    tinted = scenes.colour[:, 1] != NATURAL
    objects = {SUBJECTS.index(name) for name in COLOURED_OBJECTS}
    assert set(scenes.subject[tinted, 1].tolist()) == objects
    assert (scenes.colour[alone, 0] != NATURAL).float().mean().item() == pytest.approx(0.6, abs=0.04)


def test_named_scenes_show_what_was_asked():
    subject, colour = torch.tensor([0, 5, 9]), torch.tensor([NATURAL, 2, 10])
    scenes = named_scenes(subject, colour, generator(0, 2))
    assert [named(scenes, row) for row in range(3)] == [[("cat", None)], [("zebra", "yellow")], [("deer", "white")]]
    assert [parse(caption) for caption in scenes.captions] == [named(scenes, row) for row in range(3)]


def test_the_papers_sets_exist():
    assert len(ANIMALS) == 46
    assert set(PAIR_ANIMALS) <= set(ANIMALS)
    assert (len(COLOURED_OBJECTS), len(WORN_OBJECTS), len(COLOURS)) == (9, 3, 11)
