"""Stable Diffusion 3 draws what diffusers' pipeline draws from the same noise."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import SD3Transformer2DModel, StableDiffusion3Pipeline

from mira_pl.backbones import StableDiffusion3, Text
from mira_pl.noise import draw
from mira_pl.trajectory import sample
from mira_pl.types import Job


def pipeline_of(folder: Path, t5: bool) -> StableDiffusion3Pipeline:
    without = {} if t5 else {"text_encoder_3": None, "tokenizer_3": None}
    pipeline = StableDiffusion3Pipeline.from_pretrained(folder, **without)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


@pytest.fixture(params=["fixed shift", "shift by size"])
def folder(request: pytest.FixtureRequest, tiny_sd3: Path, tmp_path: Path) -> Path:
    if request.param == "fixed shift":
        return tiny_sd3
    file = Path(shutil.copytree(tiny_sd3, tmp_path / "dynamic")) / "scheduler" / "scheduler_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"use_dynamic_shifting": True}))
    return tmp_path / "dynamic"


@pytest.mark.parametrize("t5", [True, False])
@pytest.mark.parametrize("guidance", [4.5, 1.0])
@torch.no_grad()
def test_images_are_those_of_the_diffusers_pipeline(folder: Path, jobs: list[Job], guidance: float, t5: bool) -> None:
    backbone = StableDiffusion3(str(folder), steps=5, guidance=guidance, t5=t5)
    noise = draw(jobs, backbone.noise_shape)
    path = sample(backbone, backbone.encode([job.prompt for job in jobs]), noise)
    expected = pipeline_of(folder, t5)(
        [job.prompt for job in jobs], latents=noise[:, -1], num_inference_steps=5, guidance_scale=guidance,
        height=16, width=16, output_type="pt",
    ).images  # fmt: skip
    torch.testing.assert_close((path.images / 2 + 0.5).clamp(0, 1), expected, atol=1e-5, rtol=1e-5)
    assert path.images.std() > 0.01


@pytest.mark.parametrize("t5", [True, False])
@torch.no_grad()
def test_prompts_are_encoded_as_by_the_pipeline(tiny_sd3: Path, t5: bool) -> None:
    prompts = ["a cat", "a red dog"]
    condition = StableDiffusion3(str(tiny_sd3), steps=2, t5=t5).encode(prompts)
    tokens, empty, pooled, empty_pooled = pipeline_of(tiny_sd3, t5).encode_prompt(prompts, None, None)
    assert torch.equal(condition.positive.tokens, tokens) and torch.equal(condition.positive.pooled, pooled)
    torch.testing.assert_close(condition.negative.tokens, empty, atol=1e-6, rtol=1e-6)
    torch.testing.assert_close(condition.negative.pooled, empty_pooled, atol=1e-6, rtol=1e-6)
    assert tokens.shape == (2, 24 + 256, 32) and (tokens[:, 24:] != 0).any() == t5


@pytest.mark.parametrize(
    ("layers", "shape", "parameters", "billions"),
    [
        (24, {"pos_embed_max_size": 384, "dual_attention_layers": tuple(range(13))}, 2_243_171_520, 2.5),
        (38, {"pos_embed_max_size": 192}, 8_056_627_520, 8.1),
    ],
    ids=["medium", "large"],
)
def test_full_size(layers: int, shape: dict[str, Any], parameters: int, billions: float) -> None:
    """The published configurations, on the meta device; its authors count the table of positions, too."""
    with torch.device("meta"):
        backbone = object.__new__(StableDiffusion3)
        backbone.denoiser = SD3Transformer2DModel(
            num_layers=layers,
            num_attention_heads=layers,
            caption_projection_dim=64 * layers,
            qk_norm="rms_norm",
            **shape,
        )
        text = Text(torch.zeros(1, 77 + 256, 4096), torch.zeros(1, 2048))
        output = backbone.run(torch.zeros(1, 16, 128, 128), torch.zeros(1), text)
    assert sum(parameter.numel() for parameter in backbone.denoiser.parameters()) == parameters
    assert round(sum(tensor.numel() for tensor in backbone.denoiser.state_dict().values()) / 1e9, 1) == billions
    assert output.shape == (1, 16, 128, 128)


def test_a_model_that_is_no_flow_is_refused(tiny_sd3: Path, tiny_sd: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(tiny_sd3, tmp_path / "model"))
    shutil.copy(tiny_sd / "scheduler" / "scheduler_config.json", folder / "scheduler")
    with pytest.raises(ValueError, match="predicts 'epsilon'; StableDiffusion3 needs flow_prediction"):
        StableDiffusion3(str(folder))
