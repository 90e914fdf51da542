from dataclasses import fields

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mira_pl.world.glyphs import load_atlas
from mira_pl.world.names import COLOURS, NATURAL, SUBJECTS, TINTS
from mira_pl.world.render import Renderer, background, tint
from mira_pl.world.scenes import NOTHING, Scenes, generator, sample_scenes


def row(scenes: Scenes, index: int) -> Scenes:
    """One scene of a batch, as a batch."""
    return Scenes(**{field.name: getattr(scenes, field.name)[index : index + 1] for field in fields(Scenes)})


@given(seed=st.integers(0, 10_000))
@settings(max_examples=10, deadline=None)
def test_pictures_depend_on_the_seed_alone_and_stay_in_range(seed):
    one, two = (Renderer()(sample_scenes(8, generator(seed, 0))) for _ in range(2))
    assert torch.equal(one, two)
    assert one.shape == (8, 3, 64, 64)
    assert one.min() >= -1 - 1e-5
    assert one.max() <= 1 + 1e-5


def test_batch_equals_singles():
    scenes, render = sample_scenes(12, generator(1, 0)), Renderer()
    torch.testing.assert_close(render(scenes), torch.cat([render(row(scenes, i)) for i in range(12)]))


def test_every_subject_stands_out_from_its_background():
    scenes = sample_scenes(256, generator(2, 0))
    difference = (Renderer()(scenes) / 2 + 0.5 - background(scenes, 64)).norm(dim=1)
    assert ((difference > 0.1).float().mean(dim=(1, 2)) > 0.01).all()


def test_an_empty_scene_is_its_background():
    scenes = sample_scenes(4, generator(3, 0))
    scenes.subject.fill_(NOTHING)
    torch.testing.assert_close(Renderer()(scenes), 2 * background(scenes, 64) - 1)


def test_pixels_is_the_side():
    assert Renderer(pixels=32)(sample_scenes(2, generator(4, 0))).shape == (2, 3, 32, 32)


def test_atlas_has_a_glyph_for_every_subject():
    atlas = load_atlas()
    assert atlas.shape == (len(SUBJECTS), 4, 64, 64)
    assert (atlas[:, 3].mean(dim=(1, 2)) > 0.05).all()
    assert len({glyph.numpy().tobytes() for glyph in atlas}) == len(SUBJECTS)


def test_tint_maps_luminance_between_two_colours():
    opaque = torch.rand(len(COLOURS), 4, 8, 8)
    opaque[:, 3] = 1
    painted = tint(opaque, torch.arange(len(COLOURS)))[:, :3]
    low, high = (torch.tensor([ends[i] for ends in TINTS.values()])[..., None, None] for i in (0, 1))
    assert (painted >= low - 1e-6).all()
    assert (painted <= high + 1e-6).all()
    grey = opaque.clone()
    grey[:, :3] = 0.5
    middle = ((low + high) / 2).expand(-1, -1, 8, 8)
    torch.testing.assert_close(tint(grey, torch.arange(len(COLOURS)))[:, :3], middle)


def test_natural_keeps_the_glyph_premultiplied():
    glyphs = load_atlas()[:3]
    natural = tint(glyphs, torch.full((3,), NATURAL))
    torch.testing.assert_close(natural, torch.cat([glyphs[:, :3] * glyphs[:, 3:], glyphs[:, 3:]], dim=1))
