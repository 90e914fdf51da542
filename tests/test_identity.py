"""What makes two configurations the same."""

import pytest

from mira_pl.identity import config_hash

MODEL = {"lr": 0.01, "engine": "full", "store_steps": 0, "save_every": 1, "objective": {"init_args": {"beta": 0.5}}}
CONFIG = {"model": MODEL, "data": {"seeds": [0], "batch_size": 4}, "trainer": {"devices": 1, "precision": "32-true"}}


def changed(part: str, **settings: object) -> dict:
    return CONFIG | {part: CONFIG[part] | settings}


@pytest.mark.parametrize(
    "same",
    [
        changed("model", engine="walk"),
        changed("model", store_steps="auto"),
        changed("model", save_every=5),
        changed("trainer", devices=8),
        changed("trainer", precision=None),
        CONFIG | {"out": "elsewhere", "wandb": {"mode": "offline"}},
    ],
)
def test_effort_and_places_are_no_part_of_it(same):
    assert config_hash(same) == config_hash(CONFIG)


@pytest.mark.parametrize(
    "other",
    [
        changed("model", lr=0.5),
        changed("model", film_frames=2),
        changed("model", objective={"init_args": {"beta": 0.5, "engine": "a setting of the method"}}),
        changed("data", batch_size=2),
        changed("data", seeds=[1]),
        changed("trainer", precision="bf16-mixed"),
    ],
)
def test_what_changes_a_byte_is(other):
    assert config_hash(other) != config_hash(CONFIG)


def test_a_named_class_keeps_its_settings_one_level_deeper():
    named = {"class_path": "mira_pl.fit.NoiseSearch", "init_args": {"save_every": 1, "patience": 2}}
    often = named | {"init_args": named["init_args"] | {"save_every": 2}}
    patient = named | {"init_args": named["init_args"] | {"patience": 3}}
    first, second, third = (config_hash(CONFIG | {"model": model}) for model in (named, often, patient))
    assert first == second != third


@pytest.mark.parametrize("broken", [{}, {"model": 5, "trainer": None}, {"model": None, "trainer": [1]}])
def test_a_file_that_is_no_configuration_has_one_too(broken):
    assert len(config_hash(broken)) == 12
