"""What the columns of a trace and the fields of a record say, computed again from the files of the run."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import UNet2DConditionModel
from PIL import Image
from safetensors.torch import load_file

from mira_pl import StableDiffusion
from mira_pl.rewards import CLIPScore
from mira_pl.runs import RunFolder
from mira_pl.trajectory import sample

PAIRS = 3


def peak_bytes() -> int:
    """The most memory this process has held, by the kernel."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) * 1024


@torch.no_grad()
def loss_by_hand(folder: Path, latents: torch.Tensor, prompt: str) -> float:
    """Mean square error of the U-Net at the middles of thirds of the 1000 timesteps, noises of seeds 0, 1, 2."""
    unet = UNet2DConditionModel.from_pretrained(folder / "unet")
    backbone = StableDiffusion(str(folder), steps=3)
    levels = torch.cumprod(1 - torch.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2, dim=0)
    text = backbone.encode([prompt]).positive.tokens
    errors = []
    for seed, timestep in enumerate((166, 500, 833)):
        noise = torch.randn(latents.shape[1:], generator=torch.Generator().manual_seed(seed))[None]
        noisy = levels[timestep].sqrt() * latents + (1 - levels[timestep]).sqrt() * noise
        errors.append((unet(noisy, timestep, text).sample - noise).square().mean())
    return float(sum(errors) / PAIRS)


@torch.no_grad()
def test_the_elbo_column_is_the_rise_of_the_models_own_loss(run_fit, tiny_sd, tmp_path):
    run = RunFolder(run_fit(tmp_path / "a", "--model.elbo_pairs", str(PAIRS), "--data.limit", "1", "--model.lr", "0.1"))
    (record,), trace = run.records(), run.trace()
    backbone = StableDiffusion(str(tiny_sd), steps=3)
    held = load_file(run.path / "noise" / f"{record['key']}.safetensors")
    condition = backbone.encode([record["prompt"]])
    losses = [
        loss_by_hand(tiny_sd, sample(backbone, condition, held[name][None]).latents, record["prompt"])
        for name in ("start", "noise")
    ]
    assert float(trace[0]["elbo"]) == 0
    assert record["elbo"] == float(trace[-1]["elbo"])
    assert abs(losses[1] - losses[0]) > 1e-4
    assert record["elbo"] == pytest.approx(losses[1] - losses[0], abs=1e-5)


def test_clip_fields_are_the_scores_of_the_saved_pictures(run_fit, tmp_path):
    """Up to the rounding of a PNG: scores are tens, 8 bits move them by hundredths."""
    world = ["--model.backbone.init_args.model", "emoji", "--model.backbone.init_args.steps", "5"]
    before = peak_bytes()
    run = RunFolder(run_fit(tmp_path / "a", *world, "--model.clip", "CLIPScore", "--data.limit", "2"))
    after = peak_bytes()
    for record in run.records():
        found = {"clip_start": score(run, record, "base"), "clip": score(run, record, "")}
        for field, value in found.items():
            assert record[field] == pytest.approx(value, abs=0.2)
        assert abs(found["clip"] - found["clip_start"]) > 0.5  # so the two cannot stand for each other
        assert before <= record["peak_memory_bytes"] <= after


@torch.no_grad()
def score(run: RunFolder, record: dict[str, Any], kind: str) -> float:
    """CLIPScore of a saved picture under the record's prompt."""
    with Image.open(run.image_path(record["key"], kind)) as picture:
        pixels = torch.from_numpy(np.array(picture)).permute(2, 0, 1)[None] / 127.5 - 1
    return float(CLIPScore().score(pixels, [record["prompt"]]))
