"""The models that come with the package: small, in half precision, and they draw what they are told."""

from importlib.resources import files
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from mira_pl import StableDiffusion
from mira_pl.__main__ import main
from mira_pl.backbones import PixArt
from mira_pl.experiments.quality import coloured_prompts, paint, pair_prompts, plain_prompts
from mira_pl.judges.truth import TruthJudge
from mira_pl.prompts import make_jobs
from mira_pl.rewards import CLIPScore, HPSv2, PickScore
from mira_pl.runs import RunFolder
from mira_pl.world.preference import poll
from mira_pl.world.render import Renderer
from mira_pl.world.scenes import generator

ASSETS = Path(str(files("mira_pl") / "assets"))


def test_all_assets_are_small():
    """PyPI takes files of up to 100 MB."""
    sizes = {path: path.stat().st_size for path in ASSETS.rglob("*") if path.is_file()}
    assert sum(sizes.values()) <= 90e6
    assert sum(size for path, size in sizes.items() if "emoji_" not in str(path)) <= 80e6


@pytest.mark.parametrize("part", ["unet", "vae", "text_encoder"])
def test_the_text_to_image_model_is_in_half_precision(part):
    (file,) = (ASSETS / "emoji" / part).glob("*.safetensors")
    with safe_open(file, "pt") as weights:
        kinds = {weights.get_slice(name).get_dtype() for name in weights.keys()}  # noqa: SIM118  no mapping
    assert kinds == {"F16"}


@pytest.mark.parametrize("name", ["pickscore", "hpsv2"])
def test_the_cards_of_the_preferences_say_how_large_they_are(name):
    count = sum(value.numel() for value in load_file(ASSETS / name / "model.safetensors").values())
    assert f"{count:,} parameters" in (ASSETS / name / "README.md").read_text()


@pytest.mark.parametrize(
    "backbone",
    [
        lambda: StableDiffusion(student="emoji", steps=1, guidance=1.0, sampler="euler_ancestral"),
        lambda: PixArt("emoji", one_step_at=999, guidance=1.0),
    ],
    ids=["turbo", "dit"],
)
def test_one_step_is_enough_for_the_students(backbone):
    prompts = plain_prompts()
    assert TruthJudge().right_subject(paint(backbone(), make_jobs(prompts, [0])), prompts).mean() >= 0.8


@pytest.mark.slow
@pytest.mark.parametrize("name", ["emoji_turbo", "emoji_dit"])
def test_the_configs_of_the_students_run(tmp_path, name):
    config = Path(__file__).parents[2] / "configs" / f"{name}.yaml"
    size = ["--data.limit", "1", "--model.iterations", "3", "--wandb.mode", "disabled"]
    assert main(["fit", "--config", str(config), *size, "--out", str(tmp_path)]) == 0
    (record,) = RunFolder(tmp_path).records()
    assert record["reward"] > record["reward_start"] and record["compute"]["unet"] in (4, 7)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("reward", "faithful", "taste"), [(PickScore, 4.0, 4.0), (HPSv2, 2.0, 8.0)], ids=["pickscore", "hpsv2"]
)
def test_preferences_are_learned(reward, faithful, taste):
    """Which of two fresh pictures people prefer: better than the CLIP that they were tuned from."""
    choices = poll(300, generator(77, 0), Renderer(), faithful, taste)
    agreement = []
    for judge in (reward("emoji"), CLIPScore()):
        with torch.no_grad():
            first, second = (judge.score(images, choices.prompts) for images in (choices.first, choices.second))
        agreement.append(((first > second) == (choices.share > 0.5)).float().mean())
    assert agreement[0] > 0.75 and agreement[0] > agreement[1] + 0.02


@pytest.mark.slow
@pytest.mark.parametrize(
    ("prompts", "verdict", "least"),
    [
        (plain_prompts(), TruthJudge.right_subject, 0.9),
        (coloured_prompts(), TruthJudge.right_colour, 0.9),
        (pair_prompts(), TruthJudge.right_subject, 0.65),
    ],
    ids=["animals", "colours", "pairs"],
)
def test_it_draws_what_it_is_told(prompts, verdict, least):
    """One seed, 20 steps of DDIM."""
    images = paint(StableDiffusion(steps=20, eta=1.0, guidance=5.0), make_jobs(prompts, [0]))
    assert torch.isfinite(images).all()
    assert verdict(TruthJudge(), images, prompts).mean() >= least
