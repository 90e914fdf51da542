"""A model folder that is not right: one line that names what is wrong."""

import json
import shutil
from pathlib import Path

import pytest

from mira_pl.backbones import StableDiffusion

WEIGHTS = {
    "unet": "diffusion_pytorch_model.safetensors",
    "vae": "diffusion_pytorch_model.safetensors",
    "text_encoder": "model.safetensors",
}


@pytest.fixture
def model(tiny_sd: Path, tmp_path: Path) -> Path:
    """A copy that may be broken."""
    return Path(shutil.copytree(tiny_sd, tmp_path / "model"))


def error_of(model: Path, kind: type[Exception]) -> str:
    with pytest.raises(kind) as caught:
        StableDiffusion(str(model), steps=2)
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_a_whole_folder_loads(model: Path) -> None:
    assert StableDiffusion(str(model), steps=2).latent_shape == (4, 4, 4)


def test_missing_folder(tmp_path: Path) -> None:
    message = error_of(tmp_path / "nowhere", FileNotFoundError)
    assert str(tmp_path / "nowhere") in message and "hub id" in message


@pytest.mark.parametrize("part", ["scheduler", "tokenizer", "text_encoder", "unet", "vae"])
def test_missing_part(model: Path, part: str) -> None:
    shutil.rmtree(model / part)
    assert str(model / part) in error_of(model, FileNotFoundError)


@pytest.mark.parametrize("keep", [0, 100, -1000])
@pytest.mark.parametrize("part", sorted(WEIGHTS))
def test_truncated_weights(model: Path, part: str, keep: int) -> None:
    file = model / part / WEIGHTS[part]
    file.write_bytes(file.read_bytes()[:keep])
    assert f"corrupt weights in {file}: delete the file" in error_of(model, ValueError)


@pytest.mark.parametrize("part", sorted(WEIGHTS))
def test_missing_weights(model: Path, part: str) -> None:
    (model / part / WEIGHTS[part]).unlink()
    assert error_of(model, FileNotFoundError) == f"the folder {model / part} lacks {part}/{WEIGHTS[part]}"


@pytest.mark.parametrize("part", sorted(WEIGHTS))
def test_a_config_that_is_no_json(model: Path, part: str) -> None:
    (model / part / "config.json").write_text("{")
    assert str(model / part / "config.json") in error_of(model, ValueError)


def test_a_model_that_predicts_something_else(model: Path) -> None:
    file = model / "scheduler" / "scheduler_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"prediction_type": "sample"}))
    assert "predicts 'sample'; StableDiffusion needs epsilon or v_prediction" in error_of(model, ValueError)
