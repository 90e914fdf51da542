"""A checkpoint of the original layout gives, bit for bit, what the same model's diffusers folder gives."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import original_layout
import pytest
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from diffusers.loaders.single_file_utils import (
    CHECKPOINT_KEY_NAMES,
    convert_ldm_unet_checkpoint,
    convert_ldm_vae_checkpoint,
)
from original_layout import compvis_unet, compvis_vae, open_clip, write
from PIL import Image
from safetensors.torch import load_file, save_file
from tiny import text_config
from transformers import CLIPTextModel

from mira_pl.__main__ import main
from mira_pl.backbones import SDXL, Flux, PixArt, Sana, StableDiffusion, StableDiffusion3
from mira_pl.backbones.latent import LatentDiffusion

PROMPTS = ["a cat", "a red dog"]
Make = Callable[..., LatentDiffusion]


def without_weights(model: Path, folder: Path) -> Path:
    shutil.copytree(model, folder, ignore=shutil.ignore_patterns("*.safetensors"))
    assert not list(folder.rglob("*.safetensors")) and (folder / "unet" / "config.json").exists()
    return folder


@pytest.fixture
def sd1(tiny_sd: Path, tmp_path: Path) -> tuple[Path, Path]:
    """The single file and a folder without weights."""
    tensors = original_layout.sd1(StableDiffusion(str(tiny_sd), steps=2))
    return write(tmp_path / "v1-5.safetensors", tensors), without_weights(tiny_sd, tmp_path / "config")


@pytest.fixture
def sd2_folder(tiny_sd: Path, tmp_path: Path) -> Path:
    """OpenCLIP's tower without its last layer, as 2.x is used, and velocity prediction."""
    folder = Path(shutil.copytree(tiny_sd, tmp_path / "sd2"))
    config = text_config(16, 16)
    config.num_hidden_layers = 23
    CLIPTextModel(config).save_pretrained(folder / "text_encoder")
    scheduler = folder / "scheduler" / "scheduler_config.json"
    scheduler.write_text(json.dumps(json.loads(scheduler.read_text()) | {"prediction_type": "v_prediction"}))
    return folder


@pytest.fixture
def xl(tiny_sdxl: Path, tmp_path: Path) -> tuple[Path, Path]:
    tensors = original_layout.xl(SDXL(str(tiny_sdxl), steps=2))
    return write(tmp_path / "sdxl.safetensors", tensors), without_weights(tiny_sdxl, tmp_path / "xl_config")


def assert_same(ours: LatentDiffusion, expected: LatentDiffusion) -> None:
    x = torch.randn(2, *expected.latent_shape, generator=torch.Generator().manual_seed(0))
    conditions = ours.encode(PROMPTS), expected.encode(PROMPTS)
    for side in ("positive", "negative"):
        mine, theirs = (vars(condition)[side] for condition in conditions)
        assert torch.equal(mine.tokens, theirs.tokens)
        assert (mine.pooled is None) == (theirs.pooled is None)
        assert mine.pooled is None or torch.equal(mine.pooled, theirs.pooled)
    assert torch.equal(ours.eps(x, 0, conditions[0]), expected.eps(x, 0, conditions[1]))
    assert torch.equal(ours.decode(x), expected.decode(x))
    assert ours.noise_shape == expected.noise_shape and ours.prediction == expected.prediction
    for part in (ours.denoiser, ours.vae, *ours.encoders):
        assert not part.training and all(not p.requires_grad and p.dtype == ours.dtype for p in part.parameters())


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_stable_diffusion_1(sd1: tuple[Path, Path], tiny_sd: Path, dtype: str) -> None:
    file, config = sd1
    ours = StableDiffusion(str(file), steps=2, dtype=dtype, config=str(config))
    assert_same(ours, StableDiffusion(str(tiny_sd), steps=2, dtype=dtype))


def test_stable_diffusion_2(sd2_folder: Path, tmp_path: Path) -> None:
    expected = StableDiffusion(str(sd2_folder), steps=2)
    tensors = compvis_unet(expected.denoiser) | compvis_vae(expected.vae) | open_clip(expected.text, "cond_stage_model")
    layer = "cond_stage_model.model.transformer.resblocks."
    tensors |= {key.replace(".22.", ".23."): 9 * value for key, value in tensors.items() if f"{layer}22." in key}
    file = write(tmp_path / "v2-1.safetensors", tensors)
    ours = StableDiffusion(str(file), steps=2, config=str(without_weights(sd2_folder, tmp_path / "config")))
    assert ours.prediction == "v_prediction"
    assert_same(ours, expected)


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_sdxl(xl: tuple[Path, Path], tiny_sdxl: Path, dtype: str) -> None:
    file, config = xl
    ours, expected = (
        SDXL(str(file), steps=2, dtype=dtype, config=str(config)),
        SDXL(str(tiny_sdxl), steps=2, dtype=dtype),
    )
    assert ours.vae.dtype == expected.vae.dtype == torch.float32 and ours.zero_empty == expected.zero_empty
    if dtype == "float32":
        assert_same(ours, expected)


def test_averaged_weights_go_before_those_of_training(sd1: tuple[Path, Path], tiny_sd: Path) -> None:
    """Names as of LitEma: `model_ema.` and the parameter's name without its dots."""
    file, config = sd1
    tensors = load_file(file)
    for key in [key for key in tensors if key.startswith("model.diffusion_model.")]:
        tensors["model_ema." + key.removeprefix("model.").replace(".", "")] = tensors[key]
        tensors[key] = torch.zeros_like(tensors[key])
    write(file, tensors)
    assert_same(StableDiffusion(str(file), steps=2, config=str(config)), StableDiffusion(str(tiny_sd), steps=2))


def error_of(make: Make, kind: type[Exception], *args: object, **options: object) -> str:
    with pytest.raises(kind) as caught:
        make(*args, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_file_of_another_family_is_refused(sd1: tuple[Path, Path], xl: tuple[Path, Path], tmp_path: Path) -> None:
    message = error_of(StableDiffusion, ValueError, str(xl[0]))
    assert f"{xl[0]} holds SDXL, but StableDiffusion loads Stable Diffusion 1.x and Stable Diffusion 2.x" in message
    assert "holds Stable Diffusion 1.x, but SDXL loads SDXL" in error_of(SDXL, ValueError, str(sd1[0]))
    tensors = load_file(sd1[0])
    first = "model.diffusion_model.input_blocks.0.0.weight"
    inpainting = write(tmp_path / "inpainting.safetensors", tensors | {first: torch.zeros(8, 9, 3, 3)})
    assert "holds Stable Diffusion 1.x for inpainting" in error_of(StableDiffusion, ValueError, str(inpainting))
    refiner = {key.replace("embedders.1", "embedders.0"): value for key, value in load_file(xl[0]).items()}
    refiner = {key: value for key, value in refiner.items() if ".transformer.text_model" not in key}
    assert "holds the refiner of SDXL" in error_of(SDXL, ValueError, str(write(tmp_path / "r.safetensors", refiner)))


@pytest.mark.parametrize("backbone", [PixArt, StableDiffusion3, Flux, Sana])
def test_a_backbone_without_single_files_says_so(sd1: tuple[Path, Path], backbone: Make) -> None:
    message = error_of(backbone, FileNotFoundError, str(sd1[0]))
    assert f"{sd1[0]} is one file: give the folder of the whole model, or a hub id" in message


def test_a_file_of_another_layout_is_refused(tiny_sd: Path) -> None:
    part = tiny_sd / "unet" / "diffusion_pytorch_model.safetensors"
    assert "no whole Stable Diffusion in the original layout" in error_of(StableDiffusion, ValueError, str(part))


def test_pickles_missing_files_and_needless_configs_are_refused(tiny_sd: Path, tmp_path: Path) -> None:
    assert "pickle, which could run code" in error_of(StableDiffusion, ValueError, str(tmp_path / "v1-5.ckpt"))
    message = error_of(StableDiffusion, FileNotFoundError, str(tmp_path / "none.safetensors"))
    assert f"there is no file {tmp_path / 'none.safetensors'}" in message
    message = error_of(StableDiffusion, ValueError, str(tiny_sd), config="somebody/else")
    assert "config 'somebody/else' goes with a single .safetensors file" in message


@pytest.mark.parametrize("keep", [0, 100, -1000])
def test_a_truncated_file_is_refused(sd1: tuple[Path, Path], keep: int) -> None:
    file, config = sd1
    file.write_bytes(file.read_bytes()[:keep])
    assert f"corrupt weights in {file}" in error_of(StableDiffusion, ValueError, str(file), config=str(config))


@pytest.mark.parametrize(
    ("missing", "named"),
    [
        ("model.diffusion_model.middle_block.1.norm.bias", "mid_block.attentions.0.norm.bias"),
        ("model.diffusion_model.input_blocks.1.0.in_layers.2.weight", "down_blocks.0.resnets.0.conv1.weight"),
        ("first_stage_model.decoder.mid.attn_1.q.bias", "decoder.mid_block.attentions.0.to_q.bias"),
        ("cond_stage_model.transformer.text_model.final_layer_norm.bias", "final_layer_norm.bias"),
    ],
)
def test_a_missing_tensor_is_not_made_up(sd1: tuple[Path, Path], missing: str, named: str) -> None:
    file, config = sd1
    tensors = load_file(file)
    del tensors[missing]
    write(file, tensors)
    message = error_of(StableDiffusion, ValueError, str(file), config=str(config))
    assert "it lacks 1 tensors" in message and named in message and str(config) in message


def test_a_config_of_another_size_is_refused(sd1: tuple[Path, Path]) -> None:
    file, config = sd1
    unet = config / "unet" / "config.json"
    unet.write_text(json.dumps(json.loads(unet.read_text()) | {"block_out_channels": [8, 32]}))
    message = error_of(StableDiffusion, ValueError, str(file), config=str(config))
    assert "does not fit the unet of" in message and "size mismatch" in message
    unet.write_text(json.dumps(json.loads(unet.read_text()) | {"block_out_channels": [8, 16], "layers_per_block": 2}))
    assert "does not fit the unet of" in error_of(StableDiffusion, ValueError, str(file), config=str(config))


def test_a_config_with_fewer_layers_is_refused(sd1: tuple[Path, Path]) -> None:
    file, config = sd1
    text = config / "text_encoder" / "config.json"
    text.write_text(json.dumps(json.loads(text.read_text()) | {"num_hidden_layers": 1}))
    assert "also holds 16 tensors" in error_of(StableDiffusion, ValueError, str(file), config=str(config))


def test_without_a_config_the_official_one_is_asked_for(sd1: tuple[Path, Path], monkeypatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    message = error_of(StableDiffusion, FileNotFoundError, str(sd1[0]))
    assert "stable-diffusion-v1-5/stable-diffusion-v1-5" in message


SD15 = {"block_out_channels": (320, 640, 1280, 1280), "cross_attention_dim": 768, "attention_head_dim": 8}
XL_BASE = {
    "block_out_channels": (320, 640, 1280), "cross_attention_dim": 2048, "attention_head_dim": [5, 10, 20],
    "transformer_layers_per_block": [1, 2, 10], "use_linear_projection": True, "addition_embed_type": "text_time",
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"), "addition_time_embed_dim": 256,
    "projection_class_embeddings_input_dim": 2816,
}  # fmt: skip


@pytest.mark.parametrize(("settings", "tensors"), [(SD15, 686), (XL_BASE, 1680)], ids=["sd15", "sdxl"])
def test_the_names_at_full_size(settings: dict, tensors: int) -> None:
    """Every tensor of the U-Net and of the VAE has its name and its shape, on the meta device."""
    with torch.device("meta"):
        unet = UNet2DConditionModel(**settings)
        vae = AutoencoderKL(
            block_out_channels=(128, 256, 512, 512), layers_per_block=2, latent_channels=4,
            down_block_types=("DownEncoderBlock2D",) * 4, up_block_types=("UpDecoderBlock2D",) * 4,
        )  # fmt: skip
        names = compvis_unet(unet)
        assert len(names) == tensors
        known = CHECKPOINT_KEY_NAMES["v1"] if settings is SD15 else "model.diffusion_model.label_emb.0.2.bias"
        assert known in names and CHECKPOINT_KEY_NAMES["inpainting"] in names
        both = (
            (unet, convert_ldm_unet_checkpoint(names, unet.config)),
            (vae, convert_ldm_vae_checkpoint(compvis_vae(vae), vae.config)),
        )
    for model, converted in both:
        expected = {key: value.shape for key, value in model.state_dict().items()}
        assert {key: value.shape for key, value in converted.items()} == expected


def test_from_yaml(sd1: tuple[Path, Path], tiny_sd: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The same images as from the folder; and one line for a file that is not one."""
    file, config = sd1
    text = config / "text_encoder" / "config.json"
    lora = tmp_path / "lora.safetensors"
    layer = "unet.mid_block.attentions.0.proj_in"
    save_file({f"{layer}.lora_A.weight": torch.ones(2, 16), f"{layer}.lora_B.weight": torch.ones(16, 2)}, lora)
    images = []
    for name, source in (("file", f"model: {file}, config: {config}"), ("folder", f"model: {tiny_sd}")):
        yaml = tmp_path / f"{name}.yaml"
        yaml.write_text(
            f"""
model:
  backbone: {{class_path: StableDiffusion, init_args: {{{source}, steps: 2, lora: [{lora}], lora_scale: 0.5}}}}
  reward: Brightness
  objective: MIRA
  iterations: 2
data: {{prompts: ["a cat"]}}
trainer: {{accelerator: cpu, devices: 1, enable_progress_bar: false}}
wandb: {{mode: disabled}}
out: {tmp_path / name}
"""
        )
        assert main(["fit", "--config", str(yaml)]) == 0
        images += [Image.open(path).tobytes() for path in sorted((tmp_path / name / "images").glob("*.png"))]
    assert len(images) == 6 and images[:3] == images[3:]
    text.unlink()
    assert main(["fit", "--config", str(tmp_path / "file.yaml"), "--out", str(tmp_path / "none")]) == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("mira_pl:")]
    assert str(file) in line and str(config) in line
