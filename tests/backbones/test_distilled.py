"""A student that does not fit its model, or settings that it was not taught, are refused in one line."""

import json
import shutil
from pathlib import Path

import pytest

from mira_pl.backbones import PixArt, StableDiffusion
from mira_pl.backbones.distilled import TAUGHT
from mira_pl.commands import doctor

TURBO = {"steps": 1, "sampler": "euler_ancestral", "guidance": 1.0}


def student(model: Path, folder: Path, part: str, **changes: object) -> str:
    """Denoiser and scheduler of a model, its configuration changed."""
    for name in (part, "scheduler"):
        shutil.copytree(model / name, folder / name)
    edit(folder / part / "config.json", **changes)
    return str(folder)


def edit(file: Path, **changes: object) -> None:
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"cross_attention_dim": 24}, "its unet reads text 24 wide, the text_encoder gives text 16 wide;"),
        ({"in_channels": 9}, "its unet reads latents of 9 channels, the vae gives latents of 4 channels;"),
    ],
)
def test_a_unet_of_another_family(tiny_sd: Path, tmp_path: Path, changes: dict[str, int], message: str) -> None:
    other = student(tiny_sd, tmp_path, "unet", **changes)
    with pytest.raises(ValueError, match=f"the student '{other}' does not fit '{tiny_sd}': {message}") as caught:
        StableDiffusion(str(tiny_sd), student=other, steps=2)
    assert "\n" not in str(caught.value)


def test_a_transformer_of_another_family(tiny_pixart: Path, tmp_path: Path) -> None:
    other = student(tiny_pixart, tmp_path, "transformer", caption_channels=32)
    with pytest.raises(
        ValueError, match=f"'{other}' does not fit .*reads text 32 wide, the text_encoder gives text 16"
    ):
        PixArt(str(tiny_pixart), student=other)


def test_a_network_of_another_class(tiny_sd: Path, tiny_pixart: Path, tmp_path: Path) -> None:
    motion = student(tiny_sd, tmp_path / "motion", "unet", _class_name="UNetMotionModel")
    with pytest.raises(ValueError, match=r"is a UNetMotionModel by its unet/config\.json, where a UNet2DCond"):
        StableDiffusion(str(tiny_sd), student=motion)
    flux = student(tiny_pixart, tmp_path / "flux", "transformer", _class_name="FluxTransformer2DModel")
    with pytest.raises(ValueError, match=r"is a FluxTransformer2DModel by its transformer/config\.json"):
        PixArt(str(tiny_pixart), student=flux)


def test_the_name_that_pixarts_transformer_was_published_under(tiny_pixart: Path, tmp_path: Path) -> None:
    old = student(tiny_pixart, tmp_path, "transformer", _class_name="Transformer2DModel")
    assert PixArt(str(tiny_pixart), student=old, one_step_at=400, guidance=1.0).latent_shape == (4, 4, 4)


def test_a_student_of_another_size_draws_at_its_size(tiny_sd: Path, tmp_path: Path) -> None:
    larger = student(tiny_sd, tmp_path, "unet", sample_size=8)
    assert StableDiffusion(str(tiny_sd), student=larger, steps=2).latent_shape == (4, 8, 8)


def test_doctor_says_so_too(tiny_sd: Path, tmp_path: Path) -> None:
    other = student(tiny_sd, tmp_path, "unet", cross_attention_dim=24)
    given = ["--model.backbone.init_args.model", str(tiny_sd), "--model.backbone.init_args.student", other]
    with pytest.raises(ValueError, match="does not fit"):
        doctor.main(given)


@pytest.mark.parametrize(
    ("settings", "asked"),
    [
        (TURBO | {"steps": 20}, "timesteps 999 .. 49 with guidance 1"),
        (TURBO | {"guidance": 5.0}, "timestep 999 with guidance 5"),
        (TURBO | {"sampler": "ddim"}, "timestep 0 with guidance 1"),
    ],
)
def test_the_packaged_unet_knows_one_step(settings: dict[str, object], asked: str) -> None:
    right = "set steps: 1, sampler: euler_ancestral, guidance: 1"
    with pytest.raises(ValueError, match=f"'emoji' was taught timestep 999 alone.* is asked at {asked}: {right}$"):
        StableDiffusion(student="emoji", **settings)


@pytest.mark.parametrize("settings", [{}, {"one_step_at": 999}, {"one_step_at": 400, "guidance": 1.0}])
def test_the_packaged_dit_knows_one_step(settings: dict[str, object]) -> None:
    right = "set one_step_at: 999, guidance: 1"
    with pytest.raises(ValueError, match=f"'emoji' was taught timestep 999 alone.*: {right}$") as caught:
        PixArt("emoji", **settings)
    assert "\n" not in str(caught.value)


def test_a_model_that_does_not_say_what_it_was_taught_is_believed(tiny_sd: Path, tmp_path: Path) -> None:
    few = student(tiny_sd, tmp_path, "unet")
    assert StableDiffusion(str(tiny_sd), student=few, steps=4).schedule.steps == 4
    edit(Path(few) / "scheduler" / "scheduler_config.json", **{TAUGHT: 751})
    with pytest.raises(ValueError, match="was taught timestep 751 alone"):
        StableDiffusion(str(tiny_sd), student=few, steps=4, guidance=1.0)
