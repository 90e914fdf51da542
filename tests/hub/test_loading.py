"""A model folder that is not right: one line that names what is wrong."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from transformers import T5EncoderModel

from mira_pl.backbones import SDXL, PixArt, StableDiffusion
from mira_pl.hub.loading import broken, finite, load_state_dict

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
    assert f"the folder {model / part} lacks {part}/{WEIGHTS[part]}:" in error_of(model, FileNotFoundError)


@pytest.mark.parametrize("part", sorted(WEIGHTS))
def test_weights_of_another_shape(model: Path, part: str) -> None:
    file = model / part / WEIGHTS[part]
    weights = load_file(file)
    name = next(name for name, values in weights.items() if values.dim() > 1 and len(values) > 1)
    weights[name] = weights[name][1:].clone()
    save_file(weights, file, metadata={"format": "pt"})
    message = error_of(model, ValueError)
    assert f"the weights in {model / part} do not fit their config.json: " in message
    assert str(list(weights[name].shape)) in message


@pytest.mark.parametrize("part", sorted(WEIGHTS))
def test_a_config_that_is_no_json(model: Path, part: str) -> None:
    (model / part / "config.json").write_text("{")
    assert str(model / part / "config.json") in error_of(model, ValueError)


def test_a_model_that_predicts_something_else(model: Path) -> None:
    file = model / "scheduler" / "scheduler_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"prediction_type": "sample"}))
    assert "predicts 'sample'; StableDiffusion needs epsilon or v_prediction" in error_of(model, ValueError)


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
@pytest.mark.parametrize("part", sorted(WEIGHTS))
def test_weights_that_are_no_numbers(model: Path, part: str, value: float) -> None:
    file = model / part / WEIGHTS[part]
    weights = load_file(file)
    name = sorted(weights)[len(weights) // 2]
    weights[name].view(-1)[-1] = value
    save_file(weights, file, {"format": "pt"})
    assert f"{file} holds NaN or infinity in {name!r}" in error_of(model, ValueError)


def test_weights_beyond_the_range_of_the_dtype(model: Path) -> None:
    file = model / "unet" / WEIGHTS["unet"]
    weights = load_file(file)
    weights["conv_in.weight"][0, 0, 0, 0] = 1e5
    save_file(weights, file, {"format": "pt"})
    StableDiffusion(str(model), steps=2, dtype="bfloat16")
    with pytest.raises(ValueError, match="beyond the range of float16: take dtype float32 or bfloat16"):
        StableDiffusion(str(model), steps=2, dtype="float16")


@settings(deadline=None)
@given(
    st.lists(st.floats(width=16, allow_nan=True, allow_infinity=True), max_size=20),
    st.sampled_from([torch.float16, torch.bfloat16, torch.float32, torch.float64]),
)
def test_finite_is_isfinite_of_all(values: list[float], dtype: torch.dtype) -> None:
    tensor = torch.tensor(values, dtype=dtype)
    assert finite(tensor) == bool(torch.isfinite(tensor).all())


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_a_checkpoint_with_nan_names_file_and_tensor(tmp_path: Path, suffix: str) -> None:
    weights = {"a": torch.ones(3), "b": torch.tensor([1.0, torch.nan]), "c": torch.arange(3)}
    file = tmp_path / f"x{suffix}"
    save_file(weights, file) if suffix == ".safetensors" else torch.save(weights, file)
    with pytest.raises(ValueError, match=rf"x{suffix} holds NaN or infinity in 'b'"):
        load_state_dict(file)


@pytest.mark.parametrize("part", sorted(WEIGHTS))
def test_a_pickle_alone_is_refused(model: Path, part: str) -> None:
    safe = model / part / WEIGHTS[part]
    pickle = "pytorch_model.bin" if part == "text_encoder" else "diffusion_pytorch_model.bin"
    torch.save(load_file(safe), safe.with_name(pickle))
    safe.unlink()
    message = error_of(model, ValueError)
    assert f"as a pickle alone ({part}/{pickle})" in message and "convert it to" in message


@pytest.mark.parametrize(
    ("cls", "folder", "came", "reader"),
    [
        (SDXL, "tiny_sd", "StableDiffusionPipeline", "StableDiffusion"),
        (StableDiffusion, "tiny_sdxl", "StableDiffusionXLPipeline", "SDXL"),
        (StableDiffusion, "tiny_pixart", "PixArtAlphaPipeline", "PixArt"),
        (PixArt, "tiny_sdxl", "StableDiffusionXLPipeline", "SDXL"),
    ],
)
def test_the_model_of_another_class(
    request: pytest.FixtureRequest, cls: type, folder: str, came: str, reader: str
) -> None:
    source = request.getfixturevalue(folder)
    with pytest.raises(ValueError, match=rf"{source} is a {came} by its model_index.json.* needed: {reader} reads it$"):
        cls(str(source))


@pytest.fixture
def sharded(tiny_pixart: Path, tmp_path: Path) -> Path:
    """PixArt with its text encoder in shards."""
    folder = Path(shutil.copytree(tiny_pixart, tmp_path / "pixart"))
    encoder = T5EncoderModel.from_pretrained(folder / "text_encoder")
    shutil.rmtree(folder / "text_encoder")
    encoder.save_pretrained(folder / "text_encoder", max_shard_size="8KB")
    return folder


def test_shards_are_one_model(tiny_pixart: Path, sharded: Path) -> None:
    one, two = PixArt(str(tiny_pixart), steps=2), PixArt(str(sharded), steps=2)
    assert torch.equal(one.encode(["a cat"]).positive.tokens, two.encode(["a cat"]).positive.tokens)


def test_a_missing_and_a_broken_shard_are_named(sharded: Path) -> None:
    shard = sorted((sharded / "text_encoder").glob("*.safetensors"))[1]
    whole = shard.read_bytes()
    shard.write_bytes(whole[:-50])
    with pytest.raises(ValueError, match=f"corrupt weights in {shard}"):
        PixArt(str(sharded), steps=2)
    shard.unlink()
    with pytest.raises(FileNotFoundError, match=f"lacks text_encoder/{shard.name}"):
        PixArt(str(sharded), steps=2)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"model": "foo.ckpt"}, "foo.ckpt is a pickle, which could run code"),
        ({"model": "emoji", "student": "emoji"}, "the emoji world has no model of this class"),
        ({"model": ""}, "it is no hub id"),
    ],
)
def test_names_that_are_no_hub_ids(arguments, message):
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        PixArt(**arguments)


@pytest.mark.parametrize(
    ("name", "write"),
    [
        ("a.pt", lambda file: torch.save({"a": torch.zeros(100)}, file)),
        ("old.pth", lambda file: torch.save({"a": torch.zeros(100)}, file, _use_new_zipfile_serialization=False)),
        ("a.safetensors", lambda file: save_file({"a": torch.zeros(100)}, file)),
        ("a.json", lambda file: file.write_text('{"a": [1, 2, 3]}')),
    ],
)
def test_a_file_that_is_cut_off_is_broken(tmp_path: Path, name: str, write: Callable[[Path], object]) -> None:
    file = tmp_path / name
    write(file)
    whole = file.read_bytes()
    assert not broken(file)
    file.write_bytes(whole[: len(whole) // 2])
    assert broken(file) or name == "old.pth"  # which shows nothing but its beginning
    file.write_bytes(b"no such thing")
    assert broken(file)
