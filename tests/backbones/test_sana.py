"""Sana draws what diffusers' pipeline draws from the same noise with its authors' flow-Euler sampler."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler, SanaPipeline, SanaTransformer2DModel

from mira_pl.backbones import Sana, Text
from mira_pl.backbones.sana import instruction
from mira_pl.noise import draw
from mira_pl.trajectory import sample
from mira_pl.types import Job


@pytest.mark.parametrize("guidance", [4.5, 1.0])
@torch.no_grad()
def test_images_are_those_of_the_diffusers_pipeline(tiny_sana: Path, jobs: list[Job], guidance: float) -> None:
    backbone = Sana(str(tiny_sana), steps=5, guidance=guidance)
    noise = draw(jobs, backbone.noise_shape)
    path = sample(backbone, backbone.encode([job.prompt for job in jobs]), noise)
    pipeline = SanaPipeline.from_pretrained(tiny_sana)
    pipeline.scheduler = FlowMatchEulerDiscreteScheduler(shift=pipeline.scheduler.config.flow_shift)
    pipeline.set_progress_bar_config(disable=True)
    expected = pipeline(
        [job.prompt for job in jobs], latents=noise[:, -1], num_inference_steps=5, guidance_scale=guidance,
        height=32, width=32, use_resolution_binning=False, output_type="pt",
    ).images  # fmt: skip
    torch.testing.assert_close((path.images / 2 + 0.5).clamp(0, 1), expected, atol=1e-5, rtol=1e-5)
    assert path.images.std() > 0.01


@torch.no_grad()
def test_prompts_are_encoded_as_by_the_pipeline(tiny_sana: Path) -> None:
    prompts = ["A cat ", "a red dog"]
    condition = Sana(str(tiny_sana), steps=2).encode(prompts)
    tokens, mask, empty, empty_mask = SanaPipeline.from_pretrained(tiny_sana).encode_prompt(
        prompts, complex_human_instruction=instruction().split("\n")
    )
    assert torch.equal(condition.positive.tokens, tokens) and torch.equal(condition.positive.mask, mask.bool())
    torch.testing.assert_close(condition.negative.tokens, empty, atol=1e-6, rtol=1e-6)
    assert torch.equal(condition.negative.mask, empty_mask.bool())
    assert tokens.shape == (2, 300, 8)


def test_a_scheduler_of_its_own_kind_gives_its_shift(tiny_sana: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(tiny_sana, tmp_path / "model"))
    shutil.rmtree(folder / "scheduler")
    FlowMatchEulerDiscreteScheduler(shift=3.0).save_pretrained(folder / "scheduler")
    assert Sana(str(folder), steps=5).schedule.timesteps == Sana(str(tiny_sana), steps=5).schedule.timesteps


def test_sprint_is_refused(tiny_sana: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(tiny_sana, tmp_path / "model"))
    file = folder / "scheduler" / "scheduler_config.json"
    file.write_text(json.dumps({"_class_name": "SCMScheduler", "prediction_type": "trigflow"}))
    with pytest.raises(ValueError, match="predicts 'trigflow'; Sana needs flow_prediction"):
        Sana(str(folder))


@pytest.mark.parametrize(
    ("shape", "parameters"),
    [
        ({}, 1_604_462_752),
        (
            {
                "num_layers": 28, "num_attention_heads": 36, "num_cross_attention_heads": 16,
                "cross_attention_head_dim": 72, "cross_attention_dim": 1152,
            },
            591_747_872,
        ),
    ],
    ids=["1.6 B", "0.6 B"],
)  # fmt: skip
def test_full_size(shape: dict[str, int], parameters: int) -> None:
    """The published configurations, those of its authors' conversion script, on the meta device."""
    with torch.device("meta"):
        backbone = object.__new__(Sana)
        backbone.denoiser = SanaTransformer2DModel(**shape)
        text = Text(torch.zeros(1, 300, 2304), mask=torch.ones(1, 300, dtype=torch.bool))
        output = backbone.run(torch.zeros(1, 32, 32, 32), torch.zeros(1), text)
    assert sum(parameter.numel() for parameter in backbone.denoiser.parameters()) == parameters
    assert output.shape == (1, 32, 32, 32)
